"""Evaluation items: one RSA of held-out outputs, and the columns that show it.

An item is addressed by what it compares (held-out set, layer, reference, metric), never by a name, so that an
item added later is computed from the stored outputs and an old one is found again under a new name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sweeper.metrics.rdm import UndefinedMetric, compute_rdm
from sweeper.metrics.rsa import rsa_score, rsa_standard_error
from sweeper.plan.identity import content_id
from sweeper.randomness import stream
from sweeper.records import Record
from sweeper.spec.schema import Metric

SEMANTICS = 1
"""Raised whenever code changes a measured number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputKey:
    """Addresses the outputs of one layer on one image set."""

    set_id: str
    layer: str

    def store_key(self, state_id: str) -> str:
        """Returns the key of a state's outputs in the store."""
        return f"{state_id}.{self.set_id}.{self.layer}"


class Item(Protocol):
    """What is measured on outputs."""

    @property
    def item_id(self) -> str:
        """What is compared, hashed."""

    @property
    def column(self) -> str:
        """Name of the main value in tables; `_peak`, `_se` and so on go behind it."""

    @property
    def outputs(self) -> OutputKey:
        """Which outputs it is computed from."""

    def record(self, state_id: str, epoch: int, outputs: NDArray[np.float32], now: float) -> Record:
        """Measures outputs; what is undefined is None with its reason."""

    def describe(self) -> dict[str, str]:
        """Returns what tables need to know of the item."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RsaItem:
    """One RSA: a layer's RDM on a held-out set against a reference RDM.

    Attributes:
        item_id: what is compared, hashed.
        column: name of the value in tables; `_centered` and `_se` go behind it.
        outputs: which outputs it is computed from.
        reference: name of the reference RDM.
        rdm: float64 [M, M] in the set's order.
        metric: dissimilarity of the model's RDM.
        bootstraps: resamplings for the standard error, 0 for none.
        centered: whether the RSA of centred dimensions is computed, too.
    """

    item_id: str
    column: str
    outputs: OutputKey
    reference: str
    rdm: NDArray[np.float64]
    metric: Metric
    bootstraps: int
    centered: bool

    def record(self, state_id: str, epoch: int, outputs: NDArray[np.float32], now: float) -> Record:
        """Measures outputs [M, D]; what is undefined is None with its reason."""
        values: dict[str, float | int | str | None] = {}
        reasons: dict[str, str] = {}
        for name, measure in self._measures():
            try:
                values[name] = measure(outputs)
            except UndefinedMetric as undefined:
                values[name], reasons[name] = None, str(undefined)
        return Record(
            state_id=state_id, epoch=epoch, item=self.item_id, values=values, reasons=reasons, measured_at=now
        )

    def describe(self) -> dict[str, str]:
        """Returns what tables need to know of the item."""
        return {
            "item": self.item_id,
            "column": self.column,
            "reference": self.reference,
            "metric": self.metric,
            "set": self.outputs.set_id,
            "layer": self.outputs.layer,
        }

    def _measures(self) -> Iterable[tuple[str, Any]]:
        yield "rsa", lambda outputs: rsa_score(compute_rdm(outputs, self.metric), self.rdm)
        if self.centered:
            yield (
                "rsa_centered",
                lambda outputs: rsa_score(compute_rdm(outputs, self.metric, center=True), self.rdm),
            )
        if self.bootstraps:
            yield "rsa_se", self._standard_error

    def _standard_error(self, outputs: NDArray[np.float32]) -> float:
        rng = stream(0, "rsa_bootstrap")  # the same stimuli at every epoch, so that curves are comparable
        model = compute_rdm(outputs, self.metric)
        return rsa_standard_error(model, self.rdm, num_bootstraps=self.bootstraps, rng=rng)


def rsa_item(
    column: str,
    key: OutputKey,
    reference: str,
    rdm: NDArray[np.float64],
    metric: Metric,
    bootstraps: int | None = None,
) -> RsaItem:
    """Returns an item; with bootstraps given (0 too), the RSA of centred dimensions is part of it."""
    what = {
        "semantics": SEMANTICS,
        "set": key.set_id,
        "layer": key.layer,
        "reference": array_id(rdm),
        "metric": metric,
        "bootstraps": bootstraps or 0,
        "centered": bootstraps is not None,
    }
    return RsaItem(
        item_id=content_id("item", what)[:16],
        column=column,
        outputs=key,
        reference=reference,
        rdm=rdm,
        metric=metric,
        bootstraps=bootstraps or 0,
        centered=bootstraps is not None,
    )


def array_id(rdm: NDArray[np.float64]) -> str:
    """Returns the identity of a reference by its numbers."""
    return content_id("rdm", {"shape": list(rdm.shape), "bytes": rdm.astype("<f8").tobytes().hex()})


def distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    """Returns what is to be measured: one item where several columns show the same comparison."""
    return tuple({item.item_id: item for item in items}.values())


def column_of(item_column: str, value: str) -> str:
    """Returns the column of one value of an item: `rsa` stands under the item's own name, `rsa_se` behind it."""
    return item_column if value == "rsa" else f"{item_column}_{value.removeprefix('rsa_')}"


def records_of(
    items: Iterable[Item], state_id: str, epoch: int, outputs: Mapping[OutputKey, NDArray[np.float32]], now: float
) -> tuple[Record, ...]:
    """Returns one record per item whose outputs are at hand."""
    return tuple(item.record(state_id, epoch, outputs[item.outputs], now) for item in items if item.outputs in outputs)

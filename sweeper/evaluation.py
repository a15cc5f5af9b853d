"""Evaluation items: what is measured on held-out outputs, and the columns that show it.

An item is addressed by what it compares (held-out set, layer, reference, metric), never by a name, so that an
item added later is computed from the stored outputs and an old one is found again under a new name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.data.dataset import VALIDATION, HeldOut
from sweeper.errors import DataError, Problem
from sweeper.metrics.rdm import UndefinedMetric, compute_rdm
from sweeper.metrics.rsa import rsa_score, rsa_standard_error
from sweeper.plan.identity import content_id
from sweeper.randomness import stream
from sweeper.records import Record
from sweeper.spec.schema import Evaluation, Metric

SEMANTICS = 1
"""Raised whenever code changes a measured number."""

_FEWEST_STIMULI = 3  # with two there is one pair, and no ranks
TARGETS = "targets"
VALIDATION_RSA = "rsa_validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputKey:
    """Addresses the outputs of one layer on one image set."""

    set_id: str
    layer: str

    def store_key(self, state_id: str) -> str:
        """Returns the key of a state's outputs in the store."""
        return f"{state_id}.{self.set_id}.{self.layer}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Item:
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


def set_id(held_out: HeldOut, preprocessing: str) -> str:
    """Returns the identity of a held-out set as the model sees it."""
    return content_id("set", {"images": held_out.images.digest, "preprocessing": preprocessing})[:16]


def items_of(evaluation: Evaluation, sets: Mapping[str, HeldOut], preprocessing: str) -> tuple[Item, ...]:
    """Returns the items of a sweep on its held-out set (named `held_out`) and on further sets, in a fixed order.

    Raises:
        DataError: `evaluation.rsa` names a reference that the manifest lacks.
    """
    items: list[Item] = []
    for name, held_out in sets.items():
        for layer in evaluation.layers:
            items.extend(_items_of_set(evaluation, name, held_out, preprocessing, layer))
    return tuple(items)


def _items_of_set(
    evaluation: Evaluation, name: str, held_out: HeldOut, preprocessing: str, layer: str
) -> Iterable[Item]:
    key = OutputKey(set_id=set_id(held_out, preprocessing), layer=layer)
    suffix = "" if layer == "output" else f"_{layer}"
    if name == VALIDATION:
        yield _item(f"{VALIDATION_RSA}{suffix}", key, TARGETS, _validation_rdm(held_out), evaluation.metric)
        return
    prefix = "" if name == "held_out" else f"{name}_"
    behavioral = {reference.name: reference.rdm for reference in held_out.references if reference.kind == "behavioral"}
    for column, reference_name in _behavioral(evaluation, held_out, name):
        if column != "rsa_targets" and reference_name in behavioral:
            rdm = behavioral[reference_name]
        elif (found := _target_rdm(held_out)) is not None:
            rdm = found
        elif column == "rsa_targets":  # wanted by nobody in particular
            continue
        else:
            raise _undefined_targets(reference_name)
        yield _item(f"{column}{suffix}", key, reference_name, rdm, evaluation.metric, evaluation.bootstraps)
    for reference in held_out.references:
        if reference.kind == "neural":
            column = f"rsa_neural_{prefix}{reference.name}{suffix}"
            yield _item(column, key, reference.name, reference.rdm, evaluation.neural_metric)


def _behavioral(evaluation: Evaluation, held_out: HeldOut, set_name: str) -> Iterable[tuple[str, str]]:
    """Yields column and reference of each behavioural RSA of a set; the first is the main one."""
    known = [reference.name for reference in held_out.references if reference.kind == "behavioral"]
    if set_name != "held_out":
        yield from ((f"rsa_behavioral_{set_name}_{name}", name) for name in known)
        return
    has_targets = held_out.targets is not None
    wanted = list(evaluation.rsa) or known[:1] or ([TARGETS] if has_targets else [])
    for name in wanted:
        if name not in known and not (name == TARGETS and has_targets):
            choices = ", ".join([*known, *([TARGETS] if has_targets else [])]) or "none"
            raise DataError(
                Problem(
                    where="evaluation.rsa",
                    rule="names a behavioural reference of the manifest",
                    got=repr(name),
                    remedy=f"Known: {choices}",
                )
            )
    for index, name in enumerate(dict.fromkeys(wanted)):
        if index == 0 or name in known:  # further down, the targets have a column of their own
            yield ("rsa_behavioral" if index == 0 else f"rsa_behavioral_{name}"), name
    if has_targets:
        yield "rsa_targets", TARGETS


def _target_rdm(held_out: HeldOut) -> NDArray[np.float64] | None:
    """Returns the RDM of the held-out targets, None where some have none, such as a row of zeros."""
    assert held_out.targets is not None
    try:
        return compute_rdm(held_out.targets)
    except UndefinedMetric:
        return None


def _undefined_targets(name: str) -> DataError:
    return DataError(
        Problem(
            where="evaluation.rsa",
            rule="the targets of the held-out stimuli have a correlation RDM",
            got=f"{name}: some row of targets is constant",
            remedy="Leave such stimuli out, or name a behavioural RDM",
        )
    )


def _validation_rdm(held_out: HeldOut) -> NDArray[np.float64]:
    found = _target_rdm(held_out) if len(held_out.images) >= _FEWEST_STIMULI else None
    if found is None:
        problem = Problem(
            where="evaluation.validation",
            rule=f"the targets of the validation stimuli, {_FEWEST_STIMULI} or more, have a correlation RDM",
            got=f"{len(held_out.images)} stimuli, or a constant row of targets",
            remedy="Leave such stimuli out, or choose another seeds.split or data.train_fraction",
        )
        raise DataError(problem)
    return found


def _item(
    column: str,
    key: OutputKey,
    reference: str,
    rdm: NDArray[np.float64],
    metric: Metric,
    bootstraps: int | None = None,
) -> Item:
    """Returns an item; with bootstraps given (0 too), the RSA of centred dimensions is part of it."""
    what = {
        "semantics": SEMANTICS,
        "set": key.set_id,
        "layer": key.layer,
        "reference": content_id("rdm", {"shape": list(rdm.shape), "bytes": rdm.astype("<f8").tobytes().hex()}),
        "metric": metric,
        "bootstraps": bootstraps or 0,
        "centered": bootstraps is not None,
    }
    return Item(
        item_id=content_id("item", what)[:16],
        column=column,
        outputs=key,
        reference=reference,
        rdm=rdm,
        metric=metric,
        bootstraps=bootstraps or 0,
        centered=bootstraps is not None,
    )


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

"""Evaluation items of models whose outputs have a time axis: an RSA at each time, and what is said of the course."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweeper.data.over_time import WITHOUT_CONSTANT, CourseReference, OverTime
from sweeper.errors import DataError, Problem
from sweeper.evaluation.items import SEMANTICS, OutputKey
from sweeper.metrics.courses import nearest_before, ranked, rdm_course, rsa_course, summarize_course
from sweeper.metrics.rdm import Array, UndefinedMetric, upper_triangle
from sweeper.plan.identity import content_id
from sweeper.records import Record
from sweeper.spec.schema import Metric


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CourseItem:
    """An RSA over time; see `Item`.

    Attributes:
        item_id: what is compared, hashed.
        column: name of the mean in tables; `_peak`, `_peak_ms`, `_auc` and `_times` go behind it.
        outputs: which outputs, [T, M, D], it is computed from.
        reference: name of the reference.
        ranks: float64 [P] or [T', P]: what `ranked` made of the reference.
        model_index: int64 [T'], the model's time for each time of the course.
        times_ms: float64 [T'].
        counts: bool [T'], the times that the summary counts.
        metric: dissimilarity of the model's RDMs.
        origin: place and participants of a reference over time; None for one RDM.
    """

    item_id: str
    column: str
    outputs: OutputKey
    reference: str
    ranks: Array
    model_index: NDArray[np.int64]
    times_ms: NDArray[np.float64]
    counts: NDArray[np.bool_]
    metric: Metric
    origin: str | None = None

    def course(self, outputs: NDArray[np.float32]) -> Array:
        """Returns the RSA at each time of the course, float64 [T'], NaN where it is undefined."""
        return rsa_course(rdm_course(outputs, self.metric)[self.model_index], self.ranks)

    def record(self, state_id: str, epoch: int, outputs: NDArray[np.float32], now: float) -> Record:
        """Measures outputs [T, M, D]; see `Item.record`."""
        values: dict[str, float | int | str | None] = {"rsa": None}
        reasons: dict[str, str] = {}
        try:
            found = summarize_course(self.course(outputs), self.times_ms, self.counts)
        except UndefinedMetric as undefined:
            reasons["rsa"] = self._fault_of_reference() or str(undefined)
        else:
            values = {
                "rsa": found.mean,
                "rsa_peak": found.peak,
                "rsa_peak_ms": found.peak_ms,
                "rsa_auc": found.auc,
                "rsa_times": found.num_times,
            }
        return Record(
            state_id=state_id, epoch=epoch, item=self.item_id, values=values, reasons=reasons, measured_at=now
        )

    @property
    def constant_ms(self) -> NDArray[np.float64]:
        """Returns the times that count at which the reference is the same for all pairs, so that they drop out."""
        constant = np.isnan(self.ranks).any(axis=-1)  # of one RDM for all times, or of each
        return self.times_ms[self.counts & constant]

    def _fault_of_reference(self) -> str | None:
        if len(self.constant_ms) < self.counts.sum():
            return None
        return f"{self.reference} is the same for all pairs at each of the {self.counts.sum()} times that count"

    def describe(self) -> dict[str, str]:
        """See `Item.describe`."""
        return {
            "item": self.item_id,
            "column": self.column,
            "reference": self.reference,
            "metric": self.metric,
            "set": self.outputs.set_id,
            "layer": self.outputs.layer,
        }


def static_item(
    column: str, key: OutputKey, reference: str, rdm: NDArray[np.float64], metric: Metric, over_time: OverTime
) -> CourseItem:
    """Returns the item of one reference RDM [M, M] against the model's RDM at each of its times."""
    times = over_time.times_ms
    index = np.arange(len(times), dtype=np.int64)
    return _item(column, key, reference, upper_triangle(rdm), index, times, over_time.after_onset, metric)


def course_item(
    column: str, key: OutputKey, reference: CourseReference, metric: Metric, over_time: OverTime
) -> CourseItem:
    """Returns the item of a reference over time; the model is asked at the reference's times.

    Raises:
        DataError: the reference is the same for all pairs at each time that counts.
    """
    index = nearest_before(reference.times_ms, over_time.times_ms)
    counts = over_time.after_onset[index] & (reference.times_ms > 0)
    item = _item(column, key, reference.name, reference.rdms, index, reference.times_ms, counts, metric)
    people = (
        f"{'participants' if len(reference.participants) > 1 else 'participant'} {', '.join(reference.participants)}"
    )
    if counts.any() and len(item.constant_ms) == counts.sum():
        times = f"all {counts.sum()} times that count, {item.constant_ms[0]:g} to {item.constant_ms[-1]:g} ms"
        raise DataError(
            Problem(
                where=reference.where,
                rule=f"`{reference.name}` differs between pairs of held-out stimuli, or {column} is defined nowhere",
                got=f"the same for all pairs at {times} ({people})",
                remedy=WITHOUT_CONSTANT,
            )
        )
    return replace(item, origin=f"{reference.where}, {people}")


def _item(
    column: str,
    key: OutputKey,
    reference: str,
    rdms: NDArray[np.floating],
    model_index: NDArray[np.int64],
    times_ms: NDArray[np.float64],
    counts: NDArray[np.bool_],
    metric: Metric,
) -> CourseItem:
    numbers = np.asarray(rdms, dtype=np.float64)
    what = {
        "semantics": SEMANTICS,
        "set": key.set_id,
        "layer": key.layer,
        "reference": hashlib.sha256(str(numbers.shape).encode() + numbers.astype("<f8").tobytes()).hexdigest(),
        "times": [float(time) for time in times_ms],
        "model_index": [int(index) for index in model_index],
        "counts": [bool(each) for each in counts],
        "metric": metric,
    }
    return CourseItem(
        item_id=content_id("course", what)[:16],
        column=column,
        outputs=key,
        reference=reference,
        ranks=ranked(numbers),
        model_index=model_index,
        times_ms=times_ms,
        counts=counts,
        metric=metric,
    )

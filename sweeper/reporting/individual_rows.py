"""Individual differences as a table: one row for each group of trials that differ in their participant only."""

from collections.abc import Sequence
from typing import Any

from sweeper.reporting.individual_seeds import seeds_beside
from sweeper.reporting.individuals import BOUND, TARGETS, UNTRAINED, Individuals, Missing, common_curves, individuals_of
from sweeper.reporting.tables import Row
from sweeper.reporting.view import SweepView, plain
from sweeper.store.objects import ObjectStore


def individual_rows(view: SweepView, store: ObjectStore) -> list[Row]:
    """Returns one row per group of trials that differ in their participant only; what does not exist is None."""
    found = individuals_of(view, store)
    return [_row(one, found) for one in found]


def _row(one: Individuals | Missing, found: Sequence[Individuals | Missing]) -> Row:
    swept: dict[str, Any] = {name: plain(value) for name, value in one.group.fields}
    row: Row = {"label": one.group.label, "role": one.group.role, **swept, **dict.fromkeys(_NUMBERS)}
    if isinstance(one, Missing):
        return {**row, "missing": one.reason}
    common = common_curves(one, found)
    asked = {"" if name == "trained" else f"{name}_": agreement for name, agreement in one.agreements.items()}
    asked["common_curves_"] = None if common is None else common.agreements["trained"]
    for name, agreement in asked.items():
        if agreement is not None:
            row |= {f"{name}rho": agreement.rho, f"{name}p_value": agreement.p_value}
    if (trained := one.agreements["trained"]) is not None:
        row |= {"shuffled_mean": trained.shuffled_mean, "shuffled_sd": trained.shuffled_sd}
    for over, ceiling in one.ceilings.items():
        row[f"ceiling_{over}"] = None if ceiling is None else ceiling.rho
    if (beside := seeds_beside(one, found)) is not None:
        row |= {"num_seeds": beside.num_seeds, "variance_people": beside.spread.people}
        row |= {"variance_seeds": beside.spread.seeds, "distance_seeds": beside.distances.seeds}
        row |= {"distance_people": beside.distances.people, "distance_both": beside.distances.both}
    people, match = one.people, one.matching
    return row | {
        "curves": "common" if one.group.has_common_curves else "own",
        "start": one.group.start,
        "num_people": len(people.subjects),
        "left_out": " ".join(people.left_out) or None,
        "num_stimuli": len(people.stimuli),
        "num_times": int(people.compared.sum()),
        "matched": match.matched,
        "mismatched": match.mismatched,
        "matched_p_value": match.p_value,
        "ahead": match.ahead,
        "identified": match.identified,
        "untrained": one.mean(UNTRAINED),
        "targets": one.mean(TARGETS),
        "lower_noise_bound": one.mean(BOUND),
    }


_NUMBERS = (
    "curves",
    "start",
    "num_people",
    "left_out",
    "num_stimuli",
    "num_times",
    "rho",
    "p_value",
    "geometry_rho",
    "geometry_p_value",
    "untrained_rho",
    "untrained_p_value",
    "noisy_rho",
    "noisy_p_value",
    "common_curves_rho",
    "common_curves_p_value",
    "shuffled_mean",
    "shuffled_sd",
    "ceiling_stimuli",
    "ceiling_times",
    "matched",
    "mismatched",
    "matched_p_value",
    "ahead",
    "identified",
    "untrained",
    "targets",
    "lower_noise_bound",
    "num_seeds",
    "distance_seeds",
    "distance_people",
    "distance_both",
    "variance_people",
    "variance_seeds",
    "missing",
)

"""Individual differences for people: each number with its controls, and what was not run."""

from collections.abc import Sequence

from sweeper.metrics.individual import Agreement, Reliability
from sweeper.reporting.individual_seeds import SeedsBeside, seeds_beside
from sweeper.reporting.individuals import (
    BOUND,
    CURVES,
    TARGETS,
    UNTRAINED,
    Asked,
    Individuals,
    Missing,
    common_curves,
    individuals_of,
)
from sweeper.reporting.text import first_lines
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore

ABOUT = (
    "Distance of two participants, or of their models: 1 - Pearson of their RDMs over held-out stimuli at all times",
    "after the stimulus began, end to end. Agreement: Spearman of the models' distances with the participants'. Every",
    "model is at its best validation loss: held-out stimuli chose nothing. p: one-sided, by permuting participants.",
)
LABELS: dict[Asked, str] = {
    "trained": "agreement of the distances",
    "geometry": "the same with RDMs ranked at each time, so that levels over time count nothing",
    "untrained": "control, the {start} with these curves",
    "noisy": "control, the same with the model's noise, as the study evaluates",
}
HOW_TO_RUN = f"not run; add {CURVES}: [targets, all] to the axes"
ALIKE = "none, these models do not differ"


def individuals_text(view: SweepView, store: ObjectStore) -> str:
    """Returns the individual differences of a sweep for people."""
    found = individuals_of(view, store)
    if not found:
        return f"{view.revision.spec.name} is no sweep over participants (axes: {{subject: all}})\n"
    lines = [*first_lines(view), *ABOUT]
    for one in found:
        lines += ["", f"{one.group.label} [{one.group.role}]"]
        lines += [f"  {line}" for line in sentences(one, found)]
    return "\n".join(lines) + "\n"


def sentences(one: Individuals | Missing, found: Sequence[Individuals | Missing]) -> list[str]:
    """Returns what is said of a group, line by line."""
    if isinstance(one, Missing):
        return [f"not yet: {one.reason}"]
    match, common = one.matching, common_curves(one, found)
    return [
        _compared(one),
        *(
            f"{label.format(start=one.group.start)}: {_agreement(one.agreements[asked])}"
            for asked, label in LABELS.items()
        ),
        f"control, common curves, so that these tell nobody apart: {_common(one, common)}",
        f"control, shuffled participants: {_shuffled(one.agreements['trained'])}",
        "ceiling, the participants' own distances, half against half: "
        f"{_reliability(one.ceilings['stimuli'])} of the stimuli, {_reliability(one.ceilings['times'])} of the times",
        f"mean RSA with a participant: own model {match.matched:.3f}, others' {match.mismatched:.3f} "
        f"(p {match.p_value:.2g}), {one.group.start} {_number(one.mean(UNTRAINED))}, target embedding "
        f"{_number(one.mean(TARGETS))}; lower noise bound {_number(one.mean(BOUND))}",
        f"the own model is ahead of the others' mean for {_share(match.ahead, one)} participants, "
        f"of each other one for {_share(match.identified, one)}",
        *_seeds(seeds_beside(one, found)),
    ]


def _compared(one: Individuals) -> str:
    people, times = one.people, one.people.times_ms[one.people.compared]
    left_out = f" (failed: {', '.join(people.left_out)})" if people.left_out else ""
    return (
        f"{len(people.subjects)} participants{left_out}, {len(people.stimuli)} held-out stimuli, "
        f"{len(times)} times from {times[0]:g} to {times[-1]:g} ms"
    )


def _common(one: Individuals, common: Individuals | None) -> str:
    if one.group.has_common_curves:
        return "these models have them"
    return HOW_TO_RUN if common is None else _agreement(common.agreements["trained"])


def _agreement(found: Agreement | None) -> str:
    return ALIKE if found is None else f"{found.rho:.3f} (p {found.p_value:.2g})"


def _shuffled(found: Agreement | None) -> str:
    return ALIKE if found is None else f"{found.shuffled_mean:.3f} (SD {found.shuffled_sd:.3f})"


def _reliability(found: Reliability | None) -> str:
    return "-" if found is None else f"{found.rho:.3f} (SD {found.sd:.3f})"


def _share(share: float, one: Individuals) -> str:
    count = len(one.people.subjects)
    return f"{round(share * count)} of {count}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seeds(beside: SeedsBeside | None) -> list[str]:
    if beside is None:
        return []
    far = beside.distances
    return [
        f"{beside.num_seeds} seeds: mean distance of models {_number(far.seeds)} between seeds of a participant, "
        f"{_number(far.people)} between participants, {_number(far.both)} between both",
        f"variance of a model's RSA with its participant: {beside.spread.people:.2g} between participants, "
        f"{beside.spread.seeds:.2g} between seeds",
    ]

"""Which state of which trial is meant, and what to do where it is not there. Free of torch."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from sweeper.errors import Problem, SweeperError
from sweeper.plan.trials import Trial
from sweeper.reporting.summary import summary_of
from sweeper.reporting.view import SweepView

StateName = Literal["best", "last", "final"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """One epoch of one trial.

    Attributes:
        trial: the trial.
        epoch: 0 is the untrained model.
        val_loss: at the end of this epoch; None where it is undefined.
        best_epoch: of the trial's own epochs, the one with the lowest validation loss.
        best_val_loss: that loss.
    """

    trial: Trial
    epoch: int
    val_loss: float | None
    best_epoch: int | None
    best_val_loss: float | None

    @property
    def state_id(self) -> str:
        """The state's id in the store."""
        return self.trial.state_ids[self.epoch]


def choose(
    view: SweepView, trial_id: str, *, epoch: int | None, state: StateName | None, has: Callable[[str], bool]
) -> Chosen:
    """Returns the state that a user names.

    Args:
        view: the sweep.
        trial_id: id of a trial, or a beginning of it that no other one has.
        epoch: the epoch, None where it is named by `state`.
        state: `best` (default): lowest validation loss of the trial's own epochs; `last`: the newest one that can be
            exported; `final`: the end of a complete trial.
        has: tells whether a state can be exported.

    Raises:
        SweeperError: there is no such trial, epoch or state; says which there are.
    """
    if epoch is not None and state is not None:
        remedy = "Leave one of them out"
        raise _error("--epoch", "a state is named by --epoch or by --state", f"{epoch} and {state}", remedy)
    trial = find_trial(view, trial_id)
    losses = view.curve(trial.trial_id, "val_loss")
    kept = [at for at in view.rows(trial.trial_id) if has(trial.state_ids[at])]
    summary = summary_of(view, trial)
    found = epoch if epoch is not None else _epoch_of(state or "best", view, trial, kept, summary["best_epoch"])
    chosen = Chosen(
        trial=trial,
        epoch=found,
        val_loss=losses.get(found),
        best_epoch=summary["best_epoch"],
        best_val_loss=summary["best_val_loss"],
    )
    if found not in kept:
        raise _absent(view, chosen, kept)
    return chosen


def find_trial(view: SweepView, wanted: str) -> Trial:
    """Returns the trial with an id, or with an id that alone begins so.

    Raises:
        SweeperError: none or several begin so; names the nearest.
    """
    if wanted in view.trials:
        return view.trials[wanted]
    fitting = [trial for known, trial in view.trials.items() if wanted and known.startswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        rule, got = "the beginning of an id fits one trial only", f"{wanted!r}, which fits {len(fitting)}"
        raise _error("--trial", rule, got, f"One of {_shown(fitting)}")
    beginnings = {known[: max(len(wanted), 4)]: trial for known, trial in view.trials.items()}
    near = [beginnings[text] for text in difflib.get_close_matches(wanted, beginnings, n=3, cutoff=0.4)]
    remedy = f"Nearest: {_shown(near or list(view.trials.values()))}. All: sweeper results, column trial_id"
    raise _error("--trial", f"sweep {view.revision.spec.name} has no such trial", repr(wanted), remedy)


def _epoch_of(state: StateName, view: SweepView, trial: Trial, kept: list[int], best: int | None) -> int:
    if state == "best":
        if best is None:
            raise _nothing(view, trial, "the best state is one of the trial's own epochs")
        return best
    if state == "last":
        if not kept:
            raise _nothing(view, trial, "the last state is one that the store holds")
        return kept[-1]
    if view.status(trial.trial_id) != "complete":
        raise _nothing(view, trial, "the final state is the end of a complete trial")
    return max(view.rows(trial.trial_id))


def _nothing(view: SweepView, trial: Trial, rule: str) -> SweeperError:
    rows, status = view.rows(trial.trial_id), view.status(trial.trial_id)
    reached = f"it is measured up to epoch {max(rows)}" if rows else "nothing of it is measured"
    remedy = "Run the sweep further, or name an epoch with --epoch" if rows else "Run the sweep"
    return _error("--state", rule, f"{_shown([trial])} is {status}, {reached}", remedy)


def _absent(view: SweepView, chosen: Chosen, kept: list[int]) -> SweeperError:
    """Says why an epoch cannot be exported, and how to get it."""
    rows, epoch = view.rows(chosen.trial.trial_id), chosen.epoch
    if epoch not in rows:
        measured = f"0..{max(rows)}" if rows else "none yet"
        return _error("--epoch", "the epoch is measured", f"{epoch}, measured: {measured}", "Choose another epoch")
    name, is_kept = view.revision.spec.name, epoch in (chosen.best_epoch, max(rows))
    again = f"If it was damaged, `sweeper run {name}` makes it again, else after `sweeper verify {name} --remake`. "
    remedy = (again if is_kept else "") + (
        f"Kept: {_ranges(kept) or 'none'}. Or run a copy of the spec with training.max_epochs: {epoch} into another "
        "--store: its final state is this one"
    )
    return _error(
        "--epoch",
        "the state is in the store",
        f"epoch {epoch}, whose state is gone (dropped, or damaged)",
        remedy,
    )


def _ranges(epochs: Iterable[int]) -> str:
    """Returns `0..3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for epoch in epochs:
        if runs and runs[-1][-1] == epoch - 1:
            runs[-1].append(epoch)
        else:
            runs.append([epoch])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _shown(trials: list[Trial]) -> str:
    shown = ", ".join(f"{trial.short_id} ({trial.name})" for trial in trials[:5])
    return shown + (f" and {len(trials) - 5} more" if len(trials) > 5 else "")


def _error(where: str, rule: str, got: str, remedy: str) -> SweeperError:
    return SweeperError(Problem(where=where, rule=rule, got=got, remedy=remedy))

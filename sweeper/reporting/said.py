"""What the processes of a run said, as `sweeper logs` shows it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sweeper.errors import Problem, StoreError
from sweeper.reporting.load import open_view, revision_of, trials_named
from sweeper.store.lease import driven_sweep
from sweeper.store.logs import LogLine, LogReader, runs_of
from sweeper.store.objects import ObjectStore

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What of the logs is asked for.

    Attributes:
        sweep: its name.
        run: name of a run, None for the newest.
        trials: ids, or beginnings of them; empty: everything.
        follow: go on until nobody drives the sweep.
    """

    sweep: str
    run: str | None = None
    trials: tuple[str, ...] = ()
    follow: bool = False


def line_text(line: LogLine) -> str:
    """Returns a line for people; what does not fit on it is indented."""
    when = time.strftime("%H:%M:%S", time.localtime(line.time))
    level = "" if line.level == "info" else f"{line.level}: "
    return f"{when} {line.process}: {level}" + line.text.replace("\n", "\n    ")


def log_lines(store: ObjectStore, wanted: Wanted, every_s: float = LOOK_EVERY_S) -> Iterator[list[LogLine]]:
    """Yields what was said, in the order of time, and, where asked to follow, what is said from then on.

    Raises:
        StoreError: the store has no such sweep, or the sweep no such run or trial.
    """
    reader, states = _reader(store, wanted), _states(store, wanted)
    while True:
        is_driven = driven_sweep(store) == wanted.sweep  # asked first: what is said until its end is read below
        reader = reader or _reader(store, wanted)  # who follows may be earlier than the first line
        lines = reader.new() if reader is not None else []
        yield [line for line in lines if states is None or line.state_id in states]
        if not (wanted.follow and is_driven):
            return
        time.sleep(every_s)


def runs_with_logs(store: ObjectStore, sweep: str) -> list[str]:
    """Returns the names of the runs of a sweep that left logs, the newest last.

    Raises:
        StoreError: the store has no such sweep.
    """
    found = [run.rpartition(".")[2] for run in runs_of(store, sweep)]
    if not found:
        revision_of(store, sweep)  # else it says which sweeps there are
    return found


def _reader(store: ObjectStore, wanted: Wanted) -> LogReader | None:
    names = runs_with_logs(store, wanted.sweep)
    found = names[-1:] if wanted.run is None else [name for name in names if name.startswith(wanted.run)]
    if wanted.run is not None and len(found) != 1:
        remedy = f"`sweeper logs {wanted.sweep} --runs` lists them"
        rule = "names one run that left a log, by the beginning of its name"
        raise StoreError(Problem(where="--run", rule=rule, got=wanted.run, remedy=remedy))
    return LogReader(store, f"{wanted.sweep}.{found[0]}") if found else None


def _states(store: ObjectStore, wanted: Wanted) -> frozenset[str] | None:
    if not wanted.trials:
        return None
    trials = trials_named(open_view(store, wanted.sweep), wanted.trials)
    return frozenset(state for trial in trials for state in trial.state_ids)

"""Taking back failures, so that the next run tries again."""

from collections.abc import Iterable
from pathlib import Path

from sweeper.records import Failure
from sweeper.reporting.load import open_view, trials_named
from sweeper.store.lease import held
from sweeper.store.opening import open_store
from sweeper.store.shares import ask_share


def retry_failed(
    name: str, store_path: str | Path, trial_ids: Iterable[str] = (), gpu: float | None = None
) -> list[Failure]:
    """Takes back the failures of a sweep, so that the next run tries again; nothing else is changed.

    Args:
        name: the sweep.
        store_path: its store.
        trial_ids: trials by their ids or the beginnings of these; default: all that failed.
        gpu: least share of a GPU that each trial of the sweep gets from now on; 0: what the spec says; None: as before.

    Returns:
        What was taken back.

    Raises:
        StoreError: a driver uses the store; no trial has such an id.
    """
    store = open_store(store_path, create=False)
    with held(store, name):
        view = open_view(store, name)
        states = {state for trial in trials_named(view, trial_ids) for state in trial.state_ids}
        taken = [failure for state, failure in view.failures.items() if state in states]
        for failure in taken:
            store.drop("failures", failure.state_id)
        if gpu is not None:
            ask_share(store, name, gpu)
    return taken

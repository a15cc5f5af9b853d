"""A run around its training: it holds the store, keeps a log, and ends when it is asked to or taken over."""

import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from sweeper.driver.driver import Driver
from sweeper.driver.run import Outcome, Run
from sweeper.errors import Problem, StoreAway, StoreError, SweeperError
from sweeper.execution.worker_log import setting
from sweeper.notices import heard_by
from sweeper.store.chain import Holder
from sweeper.store.lease import Wish, held
from sweeper.store.ledger import ledger_path, open_ledger
from sweeper.store.logs import DRIVER, LogWriter, run_name
from sweeper.store.pulse import PulseWriter


def run_sweep(run: Run) -> Outcome:
    """Runs what the store does not hold yet, and returns the sweep as it then stands.

    Raises:
        StoreError: another driver uses the store, or it cannot be written.
        SweeperError: nothing can be trained here.
    """
    taken_by: list[Holder | None] = []

    def lost(holder: Holder | None) -> None:
        taken_by.append(holder)
        run.stop.set()

    def asked(wish: Wish) -> None:
        run.stop.set()
        if wish == "cancel":
            os.kill(os.getpid(), signal.SIGINT)  # the second request to stop ends at once

    def waits(holder: Holder) -> None:
        run.progress.note(f"waiting for {holder}")
        run.progress.phase("waiting for the store")

    with (
        heard_by(run.progress.note),
        held(
            run.store,
            run.sweep.spec.name,
            wait=run.wait,
            on_wait=waits,
            on_lost=lost,
            on_asked=asked,
            gives_up=run.stop.is_set,
        ) as lease,
        _log_of(run, lease.run_id) as log,
        heard_by(partial(log.say, level="warning")),
        closing(PulseWriter(run.store, lease.run_id)) as pulse,
        closing(open_ledger(ledger_path(run.store), run.store)) as ledger,
    ):
        outcome = Driver(run, ledger, log, pulse).drive()
        log.say(f"the run ends: {outcome.status}, {outcome.epochs_trained} epochs trained")
    if taken_by:
        rule, got = "a driver keeps its store to the end", f"it was taken over by {taken_by[0]}"
        remedy = "Run the same command again when that one is done: finished epochs are kept"
        kind = StoreError
        if taken_by[0] is None:
            got, remedy = "it could not be reached", "Run the same command again: finished epochs are kept"
            kind = StoreAway
        raise kind(Problem(where=run.store.address, rule=rule, got=got, remedy=remedy))
    return outcome


@contextmanager
def _log_of(run: Run, run_id: str) -> Iterator[LogWriter]:
    """Opens the log of a run, and says in it what ends the run early."""
    with closing(LogWriter(run.store, run_name(run.sweep.spec.name, time.time(), run_id), DRIVER)) as log:
        log.say(f"the run begins: {setting()}")
        try:
            yield log
        except SweeperError as error:
            run.store.hurry()
            log.say(f"the run ends: {error}", level="error")
            raise
        except BaseException as error:
            run.store.hurry()
            how = "at once, as asked" if isinstance(error, KeyboardInterrupt) else traceback.format_exc().rstrip()
            log.say(f"the run ends: {how}", level="error")
            raise

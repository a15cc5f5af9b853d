"""Four sweeps logging at once into one PostgreSQL server, as in a lab that shares one."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.tracking import labels
from sweeper.tracking.points import curve_points, settled_summary, summary_points

from .conftest import CREATED_AT, Sweep

_SWEEPS, _STEP_S, _NOBODY = 4, 60, 65534
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_FOUND = shutil.which("initdb", path=os.pathsep.join([*map(str, reversed(_DEBIAN)), os.environ.get("PATH", "")]))
_BINARIES = None if _FOUND is None else Path(_FOUND).resolve().parent

pytestmark = [
    pytest.mark.skipif(_BINARIES is None, reason="no PostgreSQL here: scripts/system-packages.sh installs it"),
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("setpriv") is None,
        reason="root may not start PostgreSQL, and there is no setpriv to become somebody else",
    ),
]


def made(number: int) -> Sweep:
    """Returns one of the sweeps: a grid whose trials are its own, finished but for a failed one."""
    sweep = Sweep(name=f"grid{number}", starts=(2, 3), lengths=(1, 2), max_epochs=9 + number)
    failing, *others = (trial for trial in sweep.trials if trial.role == "trial")
    for trial in (sweep.baseline, *others):
        sweep.train(trial)
    sweep.fail(failing, 4)
    return sweep


@pytest.fixture
def address() -> Iterator[str]:
    """Address of an empty database on a server that listens in a folder only, not at a port."""
    assert _BINARIES is not None
    as_somebody: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="sweeper-pg-", dir="/tmp"))  # a socket's path is short; pytest's are closed
    if os.geteuid() == 0:  # initdb refuses root
        as_somebody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        os.chown(home, _NOBODY, _NOBODY)

    def run(name: str, *words: str) -> None:
        command = [*as_somebody, str(_BINARIES / name), *words]
        subprocess.run(command, check=True, cwd=home, stdin=subprocess.DEVNULL, timeout=_STEP_S, capture_output=True)

    try:
        data = home / "data"
        run(
            "initdb", f"--pgdata={data}", "--auth=trust", "--username=lab", "--no-sync", "--encoding=UTF8", "--locale=C"
        )
        start = [*as_somebody, str(_BINARIES / "postgres"), "-D", str(data), "-k", str(home)]
        start += ["-c", "listen_addresses=", "-c", "fsync=off"]
        with (home / "log").open("wb") as out:
            server = subprocess.Popen(start, cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            _wait_until(
                lambda: run("psql", f"--host={home}", "--username=lab", "-c", "CREATE DATABASE mlflow", "postgres")
            )
            yield f"postgresql://lab@/mlflow?host={home}"
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast way: it ends its children itself
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_until(works: Callable[[], None]) -> None:
    for attempt in range(100):
        try:
            return works()
        except subprocess.CalledProcessError:
            if attempt == 99:
                raise
            time.sleep(0.2)
    return None


# Loads what all of them need, which takes long, and becomes one process for each.
_LOG = """
import importlib, os, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
module = importlib.import_module("tracking.test_postgres")
for name in ("matplotlib.pyplot", "mlflow", "mlflow.store.tracking.sqlalchemy_store"):
    importlib.import_module(name)
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        try:
            module.log(number, sys.argv[3], Path(sys.argv[4]))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
statuses = [os.wait()[1] for _ in range(int(sys.argv[2]))]
sys.exit(any(statuses))
"""


def log(number: int, uri: str, folder: Path) -> None:
    """Logs a sweep as `sweeper sync` does, twice."""
    from sweeper.store.local import LocalStore
    from sweeper.tracking.mlflow_tracker import sync

    store = LocalStore(folder)
    for _ in range(2):
        sync(made(number).view(), uri, f"experiment{number % 2}", store)


def test_four_sweeps_at_once_are_all_there_and_once(address: str, tmp_path: Path) -> None:
    import sqlalchemy

    words = [str(Path(__file__).parents[1]), str(_SWEEPS), address, str(tmp_path / "store")]
    command = [sys.executable, "-c", _LOG, *words]
    ended = subprocess.run(command, check=False, timeout=4 * _STEP_S, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]

    engine = sqlalchemy.create_engine(address)
    try:
        with engine.connect() as connection:
            compare(lambda query: [tuple(row) for row in connection.execute(sqlalchemy.text(query))])
    finally:
        engine.dispose()


def compare(rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """Holds what lies in the database against what the views say, name by name and point by point."""
    sweeps = [made(number) for number in range(_SWEEPS)]
    views = [sweep.view() for sweep in sweeps]
    trials = [(view, trial) for view in views for trial in view.trials.values()]
    names = dict(rows("SELECT run_uuid, name FROM runs"))
    by_trial = rows("SELECT value, run_uuid FROM tags WHERE key = 'sweeper.trial_id'")

    assert sorted(names[run] for _, run in by_trial) == sorted(labels.run_name(trial) for _, trial in trials)
    assert sorted(trial_id for trial_id, _ in by_trial) == sorted(trial.trial_id for _, trial in trials)
    parents = rows("SELECT r.name FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid AND t.value = 'sweep'")
    assert sorted(parents) == [(f"grid{number}",) for number in range(_SWEEPS)]
    assert len(names) == len(trials) + _SWEEPS
    [(experiments,)] = rows("SELECT count(*) FROM experiments WHERE name LIKE 'experiment%'")
    assert experiments == 2

    run_of = dict(by_trial)
    params = {(run_of[t.trial_id], *param) for _, t in trials for param in labels.params_of(t).items()}
    assert sorted(rows("SELECT run_uuid, key, value FROM params")) == sorted(params)
    wanted = [
        (run_of[trial.trial_id], point.name, point.step, point.value, point.timestamp_ms)
        for view, trial in trials
        for points in (curve_points(view, trial), summary_points(view, trial, settled_summary(view, trial)))
        for point in points
    ]
    found = rows("SELECT run_uuid, key, step, value, timestamp FROM metrics")
    assert sorted(found) == sorted(wanted)
    assert all(timestamp >= CREATED_AT * 1000 for *_, timestamp in found)
    statuses = rows("SELECT status, count(*) FROM runs GROUP BY status ORDER BY status")
    assert statuses == [("FAILED", 2 * _SWEEPS), ("FINISHED", len(trials) - _SWEEPS)]

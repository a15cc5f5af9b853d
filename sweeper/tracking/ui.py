"""Serves the MLflow page of a store on this machine, opened at a sweep's comparison."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from sweeper.errors import Problem, TrackingError
from sweeper.store.opening import open_store
from sweeper.store.places import writable_folder
from sweeper.tracking import labels
from sweeper.tracking.address import checked_uri, damaged_database, without_password
from sweeper.tracking.saved_view import Shown, saved_view

_LOCAL = "127.0.0.1"
_START_S, _STOP_S, _ANSWER_S = 180.0, 10.0, 60.0
_API = "api/2.0/mlflow"
_BATCH = 1000
_opener = build_opener(ProxyHandler({}))  # a proxy has no business between two processes of one machine


def page_command(uri: str, port: int) -> list[str]:
    """Returns the command that serves the page of a tracking database: one process, since one person looks."""
    where = ["--backend-store-uri", uri, "--host", _LOCAL, "--port", str(port), "--workers", "1"]
    where += ["--uvicorn-opts", "--log-level warning"]  # else a line for each request
    return [sys.executable, "-m", "mlflow", "server", *where]


def serve(store: str | Path, sweep: str | None, *, port: int, tracking_uri: str | None) -> int:
    """Serves the page until Ctrl-C or SIGTERM; returns the server's exit status, 0 when it was asked to end.

    Says where the page is once it answers. For a sweep, that is the comparison of its trials, which is also saved
    among the experiment's views (see `saved_view`). A tracking server serves its page itself: then that is all.

    Args:
        store: holds the default tracking database.
        sweep: name of the sweep, None for all of them.
        port: where the page is served.
        tracking_uri: another tracking database.

    Raises:
        SpecError: it is no tracking URI.
        TrackingError: there is nothing to show, the port is taken, or a tracking server does not answer.
    """
    where = "MLFLOW_TRACKING_URI" if tracking_uri is None else "--tracking-uri"
    uri = checked_uri(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _default_uri(store), where)
    if uri.startswith(("http://", "https://")):
        sys.stderr.write(f"{_page_of(uri, store, sweep)}\n")
        return 0
    _check_free(port)
    root = f"http://{_LOCAL}:{port}/"
    with _stopped_by_signals(), _served(uri, port) as server:
        try:
            _wait_for(root, server, uri, _sync_command(store, sweep))
            page = root if sweep is None else root + _comparison(root, store, sweep)
            sys.stderr.write(f"{page}\n(Ctrl-C ends)\n")
            sys.stderr.flush()
            return server.wait()
        except KeyboardInterrupt:
            return 0


def _page_of(uri: str, store: str | Path, sweep: str | None) -> str:
    """Returns the page of a tracking server."""
    root = f"{uri.rstrip('/')}/"
    try:
        return root if sweep is None else root + _comparison(root, store, sweep)
    except (OSError, ValueError) as error:
        remedy = "Forward its port to this machine (`ray attach cluster.yaml -p 5000`), or check the address"
        problem = Problem(where=without_password(uri), rule="a tracking server answers", got=str(error), remedy=remedy)
        raise TrackingError(problem) from error


def _comparison(root: str, store: str | Path, sweep: str) -> str:
    """Saves the view of a sweep at a server; returns what follows the server's address to show it."""
    experiments = [found["experiment_id"] for found in _all(root, "experiments", {})]
    parents = _runs(root, experiments, {labels.ROLE: labels.SWEEP_ROLE})
    by_sweep = {_tags(run)[labels.SWEEP_ID]: run for run in sorted(parents, key=_started)}
    same_name = [sweep_id for sweep_id in by_sweep if sweep_id.rpartition("@")[0] == sweep]
    if not same_name:
        known = sorted({sweep_id.rpartition("@")[0] for sweep_id in by_sweep})
        raise TrackingError(
            Problem(
                where=sweep,
                rule="the sweep must have been tracked here",
                got=f"{', '.join(known) or 'no sweep'}",
                remedy=f"Bring it there: {_sync_command(store, sweep)}",
            )
        )
    mine = f"{sweep}@{_store_id(store)}"
    sweep_id = mine if mine in same_name else same_name[-1]
    parent = by_sweep[sweep_id]["info"]
    runs = _runs(root, [parent["experiment_id"]], {labels.SWEEP_ID: sweep_id})
    shown = (Shown(params=_pairs(run, "params"), metrics=_pairs(run, "metrics"), tags=_tags(run)) for run in runs)
    view = saved_view(parent["experiment_id"], sweep_id, shown, parent["start_time"])
    tag = {"experiment_id": parent["experiment_id"], "key": view.tag, "value": view.value}
    with suppress(HTTPError):  # the page without the saved view is better than none
        _post(root, "experiments/set-experiment-tag", tag)
    return view.fragment


def _runs(root: str, experiments: list[str], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(_all(root, "runs", {"experiment_ids": experiments, "filter": wanted}))


def _all(root: str, what: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    token = None
    while True:
        page = _post(root, f"{what}/search", query | {"max_results": _BATCH} | ({"page_token": token} if token else {}))
        yield from page.get(what, ())
        if not (token := page.get("next_page_token")):
            return


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return _pairs(run, "tags")


def _pairs(run: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in run["data"].get(what, ())}


def _started(run: Mapping[str, Any]) -> int:
    return int(run["info"]["start_time"])


def _post(root: str, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
    request = Request(f"{root}{_API}/{method}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with _opener.open(request, timeout=_ANSWER_S) as answer:
        return dict(json.load(answer))


@contextmanager
def _served(uri: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | quiet | os.environ
    server = subprocess.Popen(page_command(uri, port), env=environment, start_new_session=True)  # it has children
    try:
        yield server
    finally:
        _end(server, signal.SIGTERM)
        _end(server, signal.SIGKILL)
        server.wait()


def _end(server: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # the group is empty
        os.killpg(server.pid, how)
    with suppress(subprocess.TimeoutExpired):
        server.wait(_STOP_S)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sync_command(store: str | Path, sweep: str | None) -> str:
    return shlex.join(["sweeper", "sync", *([] if sweep is None else [sweep]), "--store", str(store)])


def _wait_for(root: str, server: "subprocess.Popen[bytes]", uri: str, sync_command: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), _opener.open(f"{root}health", timeout=_ANSWER_S):
            return
        time.sleep(0.1)
    if (damage := damaged_database(uri, sync_command)) is not None:
        raise TrackingError(damage)
    got = "no answer" if server.poll() is None else f"exit status {server.returncode}"
    raise TrackingError(Problem(where=root, rule="MLflow's server must start", got=got, remedy="Its own lines say why"))


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOCAL, port))
        except OSError as error:
            raise TrackingError(
                Problem(
                    where=f"{_LOCAL}:{port}",
                    rule="the port must be free",
                    got=error.strerror,
                    remedy="Name another one with --port",
                )
            ) from error


def _store_id(store: str | Path) -> str | None:
    with suppress(Exception):
        return open_store(store, create=False).store_id
    return None


def _default_uri(store: str | Path) -> str:
    database = writable_folder(open_store(store, create=False)) / "mlflow.db"
    if not database.exists():
        raise TrackingError(
            Problem(
                where=str(database),
                rule="no run of this store was tracked here",
                remedy="Run a sweep, bring one here with `sweeper sync`, or name a server with --tracking-uri",
            )
        )
    return f"sqlite:///{database}"

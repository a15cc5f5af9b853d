"""Serves the MLflow page of a store on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from sweeper.errors import Problem, TrackingError
from sweeper.store.objects import LocalStore

_LOCAL = "127.0.0.1"


def page_command(uri: str, port: int) -> list[str]:
    """Returns the command that serves the page of a tracking database."""
    return [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", _LOCAL, "--port", str(port)]


def serve(store: Path, sweep: str | None, *, port: int, tracking_uri: str | None) -> int:
    """Serves the page until Ctrl-C; returns the server's exit status.

    Raises:
        TrackingError: there is nothing to show, or a server of its own shows it.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _default_uri(store)
    if uri.startswith(("http://", "https://")):
        raise TrackingError(
            Problem(where=uri, rule="a tracking server shows its own page", remedy="Open this address in a browser")
        )
    what = "choose the experiment" if sweep is None else f"choose the experiment of {sweep}"
    sys.stderr.write(f"http://{_LOCAL}:{port}  ({what}; Ctrl-C ends)\n")
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"} | os.environ
    return subprocess.run(page_command(uri, port), check=False, env=environment).returncode


def _default_uri(store: Path) -> str:
    database = LocalStore(store.absolute(), create=False).root / "mlflow.db"
    if not database.exists():
        raise TrackingError(
            Problem(
                where=str(database),
                rule="no run of this store was tracked here",
                remedy="Run a sweep, or name a server with --tracking-uri",
            )
        )
    return f"sqlite:///{database}"

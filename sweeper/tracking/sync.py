"""Where a sweep is tracked, and bringing a server up to date with it at any time."""

import os
from pathlib import Path

from sweeper.errors import Problem, SpecError
from sweeper.reporting.load import open_view
from sweeper.spec.schema import SweepSpec
from sweeper.store.lease import driven_sweep
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store
from sweeper.store.places import writable_folder
from sweeper.tracking.address import checked_uri

NO_TRACKING = "off"


def tracking_uri(asked: str | None, spec: SweepSpec, store: ObjectStore) -> str:
    """Returns where a sweep is tracked: what was asked for, the spec, the environment, an SQLite file.

    Raises:
        SpecError: it is no tracking URI.
    """
    default = f"sqlite:///{writable_folder(store) / 'mlflow.db'}"
    named = {
        "--tracking-uri": asked,
        "tracking.uri": spec.tracking.uri,
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI"),
    }
    where, uri = next(((where, uri) for where, uri in named.items() if uri), ("", default))
    return uri if uri == NO_TRACKING else checked_uri(uri, where)


def sync_sweep(name: str, store_path: str | Path, asked: str | None) -> str:
    """Brings an MLflow server up to date with a sweep, which may be running; returns its URI.

    Raises:
        StoreError: there is no store, or no such sweep in it.
        SpecError: it is no tracking URI.
        TrackingError: the server cannot be reached.
    """
    from sweeper.tracking.mlflow_tracker import experiment_name, sync

    store = open_store(store_path, create=False)
    while True:
        is_running, view = driven_sweep(store) == name, open_view(store, name)
        uri = tracking_uri(asked, view.revision.spec, store)
        if uri == NO_TRACKING:
            remedy = "Name a server or a database with --tracking-uri"
            raise SpecError(Problem(where=name, rule="is tracked somewhere", got=NO_TRACKING, remedy=remedy))
        sync(view, uri, experiment_name(view), store, is_running=is_running)
        if (driven_sweep(store) == name) == is_running:  # else a driver that began or ended meanwhile knows more
            return uri

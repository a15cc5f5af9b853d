"""Where a sweep is tracked: what of it may be shown, which locks and marks belong to it."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from sweeper.errors import Problem, SpecError
from sweeper.plan.identity import content_id
from sweeper.reporting.view import SweepView
from sweeper.tracking.points import logged_of

_LOCK_TIMEOUT_S = 600.0
_SQLITE = "sqlite:///"
_DATABASES = ("postgresql", "mysql", "mssql")
_SCHEMES = ("http", "https", "sqlite", *_DATABASES, "databricks", "databricks-uc", "uc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """One experiment at one tracking URI, as the processes that share a folder use it.

    Attributes:
        uri: MLflow tracking URI.
        experiment: its name.
        store_id: identity of the store, so that equal sweep names of two stores stay apart.
        folder: lock files and marks.
    """

    uri: str
    experiment: str
    store_id: str
    folder: Path

    @property
    def shown(self) -> str:
        """The URI without the password that it may carry."""
        return without_password(self.uri)

    @property
    def artifact_location(self) -> str | None:
        """Where artifacts go when there is no server to decide: beside an SQLite file, not in ./mlruns."""
        if (database := sqlite_file(self.uri)) is not None:
            return (database.parent / f"{database.stem}-artifacts").as_uri()
        scheme = self.uri.partition(":")[0].partition("+")[0]
        return (self.folder.absolute() / "mlflow-artifacts").as_uri() if scheme in _DATABASES else None

    def sweep_id(self, view: SweepView) -> str:
        """Returns what a sweep's runs are found by."""
        return f"{view.revision.spec.name}@{self.store_id}"

    def lock(self, *what: str) -> FileLock:
        """Returns the lock of the URI, or of something at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f"{self._name(*what)}.lock", timeout=_LOCK_TIMEOUT_S)

    def mark(self, view: SweepView) -> None:
        """Remembers that everything in a view is tracked."""
        self._mark_of(view).write_text(self._digest(view))

    def is_marked(self, view: SweepView) -> bool:
        """Tells whether a sweep without open trials was tracked in full before; an SQLite file must be the same."""
        mark = self._mark_of(view)
        if not mark.is_file() or any(view.status(trial_id) == "open" for trial_id in view.trials):
            return False
        return mark.read_text() == self._digest(view)

    def _mark_of(self, view: SweepView) -> Path:
        return self.folder / f"{self._name(self.experiment, self.sweep_id(view))}.done"

    def _digest(self, view: SweepView) -> str:
        database = sqlite_file(self.uri)
        file = database.stat() if database is not None and database.exists() else None
        trials = {
            trial_id: [view.status(trial_id), view.failure(trial_id), logged_of(view, trial).digest]
            for trial_id, trial in view.trials.items()
        }
        place = [] if file is None else [file.st_dev, file.st_ino]
        missing = database is not None and file is None
        return content_id(
            "tracked", {"revision": view.revision.number, "trials": trials, "place": place, "missing": missing}
        )

    def _name(self, *what: str) -> str:
        return f"mlflow-{content_id('tracking', [self.uri, *what])[:16]}"


def sqlite_file(uri: str) -> Path | None:
    """Returns the file of a tracking URI that is an SQLite database."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def damaged_database(uri: str, sync_command: str) -> Problem | None:
    """Returns what is wrong with the SQLite file of a tracking URI; None where it is sound, or there is none.

    Args:
        uri: MLflow tracking URI.
        sync_command: what makes the file anew.
    """
    database = sqlite_file(uri)
    if database is None or not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
            found = str(opened.execute("PRAGMA quick_check(1)").fetchone()[0]).strip().splitlines()[-1]
    except sqlite3.OperationalError:  # locked, or not to be read: no damage
        return None
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found == "ok":
        return None
    rule = "the tracking database is a sound SQLite file"
    remedy = f"It is only a view of the store: move or delete this file, then `{sync_command}` makes it anew"
    return Problem(where=str(database), rule=rule, got=found, remedy=remedy)


def checked_uri(uri: str, where: str) -> str:
    """Returns a tracking URI that MLflow may be asked to open.

    Args:
        uri: as the user gave it.
        where: the option, field or variable that names it.

    Raises:
        SpecError: it names neither a server nor a database that lasts.
    """
    scheme, colon, rest = uri.partition(":")
    plugins = (found.name for found in entry_points(group="mlflow.tracking_store"))
    is_known = scheme.partition("+")[0] in (*_SCHEMES, *plugins) and (colon or scheme in _SCHEMES[-3:])
    if is_known and not (scheme == "sqlite" and rest in ("//", "///", "///:memory:")):  # which ends with the process
        return uri
    remedy = "Give a server (http://HOST:5000) or a database (sqlite:////FOLDER/mlflow.db, postgresql://USER@HOST/NAME)"
    rule = "a tracking URI names a server or a database"
    raise SpecError(Problem(where=where, rule=rule, got=without_password(uri), remedy=remedy))


def prepare_environment(http_retries: int) -> None:
    """Makes MLflow silent, private and impatient before it is imported; what the user set stays, but for telemetry.

    Args:
        http_retries: how often a request is repeated; the first time at once, then after 2, 4, ... seconds.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its errors are raised, too
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(http_retries))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def without_password(uri: str) -> str:
    """Returns a URI as it may be shown."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))

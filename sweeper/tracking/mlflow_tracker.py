"""The sweep in MLflow: a projection of the store that can be made anew, or sent to another server, at any time."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sweeper.errors import Problem, TrackingError
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.store.places import writable_folder
from sweeper.tracking.address import Address, damaged_database, prepare_environment
from sweeper.tracking.mlflow_view import Server, connect, refusals
from sweeper.tracking.projection import KILLED, RUNNING, Projection

_PREFACE = "(raised as a result of "  # SQLAlchemy says on a line of its own when it was, and why on the next


class MlflowTracker:
    """Shows one sweep as an MLflow parent run with one child run per trial.

    Every method raises `TrackingError` when the server cannot be used; any of them may then be called again.
    A sweep that is as it was when its tracking last finished is left alone, without importing mlflow.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        store: ObjectStore,
        *,
        http_retries: int = 1,
        trust_marks: bool = True,
        open_status: str = KILLED,
    ) -> None:
        """Remembers where to track; nothing is imported or opened before `start`.

        Args:
            uri: MLflow tracking URI.
            experiment: name of the experiment, made if need be.
            store: holds the best states, lock files and marks; equal sweep names of two stores stay apart.
            http_retries: how often MLflow repeats a request, unless the user's environment says.
            trust_marks: leave a sweep alone that was tracked in full before; False looks at the server.
            open_status: status of the runs that are not at their end when tracking finishes.
        """
        self._store = store
        self._address = Address(
            uri=uri, experiment=experiment, store_id=store.store_id, folder=writable_folder(store) / "tmp"
        )
        self._http_retries = http_retries
        self._trust_marks = trust_marks
        self._open_status = open_status
        self._server: Server | None = None
        self._projection: Projection | None = None

    def start(self, view: SweepView) -> None:
        """See `Tracker.start`."""
        if not (self._trust_marks and self._address.is_marked(view)):
            self._start(view)

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        """See `Tracker.push`."""
        projection = self._projection or self._start(view)
        with self._locked(view):
            projection.push(view, trial_ids)

    def finish(self, view: SweepView) -> None:
        """See `Tracker.finish`."""
        if self._projection is None and self._trust_marks and self._address.is_marked(view):
            return
        projection = self._projection or self._start(view)
        with self._locked(view):
            projection.finish(view)
        if self._server is not None and self._server.artifact_error is not None:
            error, self._server.artifact_error = self._server.artifact_error, None
            raise self._problem(view, error, "the server's artifact store must take files")
        self._address.mark(view)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._server = self._projection = None

    def _start(self, view: SweepView) -> Projection:
        with self._answering(view), self._address.lock():  # two that open a fresh SQLite file break its migration
            self._server = self._server or connect(self._address)
        projection = Projection(self._server, self._store, self._address.sweep_id(view), self._open_status)
        with self._locked(view):
            projection.start(view)
        self._projection = projection
        return projection

    @contextmanager
    def _locked(self, view: SweepView) -> Iterator[None]:
        with self._answering(view), self._address.lock(self._address.sweep_id(view)):
            yield

    @contextmanager
    def _answering(self, view: SweepView) -> Iterator[None]:
        prepare_environment(self._http_retries)
        try:
            yield
        except refusals() as error:
            raise self._problem(view, error, "the tracking server must answer") from error

    def _problem(self, view: SweepView, error: Exception, rule: str) -> TrackingError:
        address, name = self._address, view.revision.spec.name
        words = ["sweeper", "sync", name, "--tracking-uri", address.shown, "--store", self._store.address]
        again = shlex.join(words)
        if (damage := damaged_database(address.uri, again)) is not None:
            return TrackingError(damage)
        lines = [line for line in str(error).strip().splitlines() if not line.startswith(_PREFACE)]
        got = (lines or [type(error).__name__])[0].replace(address.uri, address.shown)
        return TrackingError(Problem(where=address.shown, rule=rule, got=got, remedy=f"When it does: {again}"))


def sync(view: SweepView, uri: str, experiment: str, store: ObjectStore, *, is_running: bool = False) -> None:
    """Brings any MLflow server up to date with a sweep; again, it changes nothing.

    Args:
        view: what the store knows.
        uri: MLflow tracking URI.
        experiment: name of the experiment.
        store: as in `MlflowTracker`.
        is_running: a driver trains the sweep right now: what is open stays `RUNNING`, else it is `KILLED`.

    Raises:
        TrackingError: the server cannot be reached, or refuses.
    """
    open_status = RUNNING if is_running else KILLED
    tracker = MlflowTracker(uri, experiment, store, http_retries=3, trust_marks=False, open_status=open_status)
    tracker.start(view)
    tracker.finish(view)
    tracker.close()


def experiment_name(view: SweepView) -> str:
    """Returns the experiment of a sweep: the one that its spec names, else the spec's own name."""
    return view.revision.spec.tracking.experiment or view.revision.spec.name

"""The sweep in MLflow. The only module that imports mlflow, and it does so when a server is first spoken to.

A projection of the store: it can be made anew, or sent to another server, at any time.
"""

import getpass
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import Problem, TrackingError
from sweeper.reporting.view import SweepView
from sweeper.tracking import labels
from sweeper.tracking.address import Address, prepare_environment
from sweeper.tracking.points import Point
from sweeper.tracking.projection import Projection, Run, RunGone

if TYPE_CHECKING:
    from mlflow import MlflowClient

_METRICS, _PARAMS = 800, 100  # in a batch; MLflow takes 1,000 entities, 100 of them parameters and 100 tags
_PAGE = 1000


class MlflowTracker:
    """Shows one sweep as an MLflow parent run with one child run per trial.

    Every method raises `TrackingError` when the server cannot be used; any of them may then be called again.
    A sweep that is as it was when its tracking last finished is left alone, without importing mlflow.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        store_id: str,
        lock_dir: Path,
        http_retries: int = 1,
        trust_marks: bool = True,
    ) -> None:
        """Remembers where to track; nothing is imported or opened before `start`.

        Args:
            uri: MLflow tracking URI.
            experiment: name of the experiment, made if need be.
            store_id: identity of the store, so that equal sweep names of two stores stay apart.
            lock_dir: folder of lock files and marks; processes that log the same sweep must share it.
            http_retries: how often MLflow repeats a request, unless the user's environment says.
            trust_marks: leave a sweep alone that was tracked in full before; False looks at the server.
        """
        self._address = Address(uri=uri, experiment=experiment, store_id=store_id, folder=lock_dir)
        self._http_retries = http_retries
        self._trust_marks = trust_marks
        self._server: _Server | None = None
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
            raise _problem(self._address, view, error, "the server's artifact store must take files")
        self._address.mark(view)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._server = self._projection = None

    def _start(self, view: SweepView) -> Projection:
        with self._answering(view), self._address.lock():  # two that open a fresh SQLite file break its migration
            self._server = self._server or _connect(self._address)
        projection = Projection(self._server, self._address.sweep_id(view))
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
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise _problem(self._address, view, error, "the tracking server must answer") from error


def sync(view: SweepView, uri: str, experiment: str, *, store_id: str, lock_dir: Path) -> None:
    """Brings any MLflow server up to date with a sweep that is not running; again, it changes nothing.

    Args:
        view: what the store knows.
        uri: MLflow tracking URI.
        experiment: name of the experiment.
        store_id: as in `MlflowTracker`.
        lock_dir: as in `MlflowTracker`.

    Raises:
        TrackingError: the server cannot be reached, or refuses.
    """
    tracker = MlflowTracker(uri, experiment, store_id=store_id, lock_dir=lock_dir, http_retries=3, trust_marks=False)
    tracker.start(view)
    tracker.finish(view)
    tracker.close()


def experiment_name(view: SweepView) -> str:
    """Returns the experiment of a sweep: the one that its spec names, else the spec's own name."""
    return view.revision.spec.tracking.experiment or view.revision.spec.name


class _Server:
    """One experiment on one server. See `RunServer`."""

    def __init__(self, client: "MlflowClient", experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._user = _user()
        self.artifact_error: Exception | None = None

    def find(self, sweep_id: str) -> list[Run]:
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{labels.SWEEP_ID}` = '{sweep_id}'", max_results=_PAGE, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return [_run(run) for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]

    def create(self, name: str, tags: Mapping[str, str], start_ms: int) -> Run:
        tags = {**tags, labels.USER: self._user}
        return _run(self._client.create_run(self._experiment_id, start_time=start_ms, tags=tags, run_name=name))

    def write(
        self, run: Run, *, points: Iterable[Point] = (), params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        points = tuple(points)
        *metrics, last_metrics = _chunks((Metric(p.name, p.value, p.timestamp_ms, p.step) for p in points), _METRICS)
        *parameters, last_parameters = _chunks((Param(name, value) for name, value in params.items()), _PARAMS)
        for some in parameters:
            self._log(run, params=some)
        for some in metrics:
            self._log(run, metrics=some)
        marks = [RunTag(name, value) for name, value in tags.items()]  # last: what they claim is true by then
        self._log(run, metrics=last_metrics, params=last_parameters, tags=marks)
        run.params |= params
        run.tags |= tags
        run.latest |= {p.name: p.value for p in points}

    def drop_tag(self, run: Run, name: str) -> None:
        self._client.delete_tag(run.run_id, name)
        del run.tags[name]

    def set_status(self, run: Run, status: str, end_ms: int | None) -> None:
        if end_ms is None:
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status=status, end_time=end_ms)
        run.status = status

    def store_text(self, run: Run, name: str, text: str) -> None:
        if self.artifact_error is not None:
            return
        try:
            self._client.log_text(run.run_id, text, name)
        except Exception as error:  # every kind of artifact store raises its own
            self.artifact_error = error

    def _log(self, run: Run, **batch: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run.run_id, **batch)
        except MlflowException as error:
            if self._is_gone(run):
                raise RunGone(run.run_id) from error
            raise

    def _is_gone(self, run: Run) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run.run_id).info.lifecycle_stage != "active")
        except MlflowException as error:
            return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def _connect(address: Address) -> _Server:
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient(tracking_uri=address.uri)
    found = client.get_experiment_by_name(address.experiment)
    if found is None:
        with suppress(MlflowException):  # somebody else was faster; if not, the next line says so
            client.create_experiment(address.experiment, artifact_location=address.artifact_location)
        found = client.get_experiment_by_name(address.experiment)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            Problem(
                where=address.shown,
                rule=f"experiment {address.experiment!r} must exist",
                got="it was deleted" if found is not None else None,
                remedy="Restore it in MLflow, or name another one in the spec: tracking.experiment",
            )
        )
    return _Server(client, found.experiment_id)


def _problem(address: Address, view: SweepView, error: Exception, rule: str) -> TrackingError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    remedy = f"When it does: sweeper sync {view.revision.spec.name} --tracking-uri {address.shown}"
    return TrackingError(
        Problem(where=address.shown, rule=rule, got=lines[0].replace(address.uri, address.shown), remedy=remedy)
    )


def _run(run: Any) -> Run:
    return Run(
        run_id=run.info.run_id,
        status=run.info.status,
        start_ms=run.info.start_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        latest=dict(run.data.metrics),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "unknown"


def _chunks(items: Iterable[Any], size: int) -> list[list[Any]]:
    """Returns items in lists of a size; one empty list where there is none."""
    everything = list(items)
    return [everything[first : first + size] for first in range(0, len(everything), size)] or [[]]

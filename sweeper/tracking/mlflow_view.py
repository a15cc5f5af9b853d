"""One experiment on an MLflow server. The only module that imports mlflow, and it does so when it is first called."""

import getpass
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import Problem, TrackingError
from sweeper.tracking import labels
from sweeper.tracking.address import Address
from sweeper.tracking.points import Point
from sweeper.tracking.projection import Run, RunGone

if TYPE_CHECKING:
    from mlflow import MlflowClient

_METRICS, _PARAMS = 800, 100  # in a batch; MLflow takes 1,000 entities, 100 of them parameters and 100 tags
_PAGE = 1000


class Server:
    """Holds the runs of one experiment. See `RunServer`."""

    def __init__(self, client: "MlflowClient", experiment_id: str) -> None:
        """Remembers them; `artifact_error` will hold the first reason why a file could not be stored."""
        self._client = client
        self._experiment_id = experiment_id
        self._user = _user()
        self.artifact_error: Exception | None = None

    def find(self, sweep_id: str) -> list[Run]:
        """See `RunServer.find`."""
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
        """See `RunServer.create`."""
        tags = {**tags, labels.USER: self._user}
        return _run(self._client.create_run(self._experiment_id, start_time=start_ms, tags=tags, run_name=name))

    def write(
        self, run: Run, *, points: Iterable[Point] = (), params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """See `RunServer.write`."""
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

    def delete(self, run: Run) -> None:
        """See `RunServer.delete`."""
        self._client.delete_run(run.run_id)

    def drop_tag(self, run: Run, name: str) -> None:
        """See `RunServer.drop_tag`."""
        self._client.delete_tag(run.run_id, name)
        del run.tags[name]

    def set_status(self, run: Run, status: str, end_ms: int | None) -> None:
        """See `RunServer.set_status`."""
        if end_ms is None:
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status=status, end_time=end_ms)
        run.status = status

    def store_file(self, run: Run, name: str, data: bytes) -> bool:
        """See `RunServer.store_file`."""
        if self.artifact_error is not None:
            return False
        folder, _, base = name.rpartition("/")
        try:
            with tempfile.TemporaryDirectory() as scratch:
                Path(scratch, base).write_bytes(data)
                self._client.log_artifact(run.run_id, str(Path(scratch, base)), folder or None)
        except Exception as error:  # every kind of artifact store raises its own
            self.artifact_error = error
        return self.artifact_error is None

    def _log(self, run: Run, **batch: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run.run_id, **batch)
        except MlflowException as error:
            if self._is_gone(run):
                raise RunGone(f"run {run.run_id} was deleted meanwhile") from error
            raise

    def _is_gone(self, run: Run) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run.run_id).info.lifecycle_stage != "active")
        except MlflowException as error:
            return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def connect(address: Address) -> Server:
    """Opens an experiment, made if need be.

    Raises:
        TrackingError: the experiment was deleted.
    """
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
    return Server(client, found.experiment_id)


def refusals() -> tuple[type[Exception], ...]:
    """Returns what is raised when a server does not answer, or refuses, or a run is deleted meanwhile."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, RunGone


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

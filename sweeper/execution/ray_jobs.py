"""Verbs as Ray Jobs on the head of a cluster. Beside `ray_cluster` the only module that imports ray."""

import asyncio
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from sweeper.errors import ClusterError, Interrupted, Problem, SpecError
from sweeper.execution.job_log import NO_PYTHON, JobLog, Output, entrypoint
from sweeper.execution.parcel import Parcel

_LOOK_S = 0.3
_LOST_S = 60.0  # since the line broke, without an answer of the head: then a job is followed no longer
_DRAIN_S = 120  # between Ray's SIGTERM to a job (`ray job stop`) and its SIGKILL; Ray's default of 3 s loses epochs
_CHATTY = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")
_REACH = (
    "Check the address (`ray dashboard cluster.yaml` forwards the head's port 8265 to this machine), and that "
    "the head was started with ray[default]"
)
_TROUBLE = (OSError, RuntimeError, ValueError, LookupError, RayError, aiohttp.ClientError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a verb ended.

    Attributes:
        exit_code: of the verb.
        output: what it printed.
        said: what of its standard error was not shown yet.
    """

    exit_code: int
    output: bytes
    said: str


class Head:
    """The head of a cluster, which takes jobs."""

    def __init__(self, address: str) -> None:
        """Connects.

        Args:
            address: of Ray's dashboard, `http://HEAD:8265`. What it asks for beside that is read as `ray job` reads it:
                RAY_JOB_HEADERS, RAY_AUTH_MODE, RAY_AUTH_TOKEN.

        Raises:
            ClusterError: nobody answers there, or not to us.
        """
        self._address = address
        for name in _CHATTY:
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        try:
            with _only_address(address):
                self._client = JobSubmissionClient(address, headers=_headers())
        except _TROUBLE as error:
            raise self._problem("the head of a Ray cluster answers there", error) from error

    def submit(self, verb: Sequence[str], parcel: Parcel, output: Output, variables: Mapping[str, str]) -> "VerbJob":
        """Starts a verb as a job.

        Args:
            verb: the verb and its arguments.
            parcel: what it needs.
            output: how what it prints is put into the job's log.
            variables: of its environment, beside those of the parcel.

        Raises:
            ClusterError: the head does not take it.
        """
        job_id = f"sweeper-{verb[0]}-{uuid.uuid4().hex[:8]}"
        environment = {
            "working_dir": str(parcel.folder),
            "py_modules": [str(package) for package in parcel.packages],
            "env_vars": {**parcel.variables, **variables, "RAY_JOB_STOP_WAIT_TIME_S": str(_DRAIN_S)},
        }
        line = entrypoint(verb, job_id, output)
        try:
            self._client.submit_job(entrypoint=line, submission_id=job_id, runtime_env=environment)
        except _TROUBLE as error:
            raise self._problem("the head takes the job", error) from error
        return VerbJob(self._client, job_id, self._problem, output)

    def _problem(self, rule: str, got: BaseException | str, remedy: str = _REACH) -> ClusterError:
        shown = next(iter(str(got).strip().splitlines()), type(got).__name__)
        return ClusterError(Problem(where=self._address, rule=rule, got=shown, remedy=remedy))


class VerbJob:
    """A verb that runs on a head."""

    def __init__(
        self,
        client: JobSubmissionClient,
        job_id: str,
        problem: Callable[..., ClusterError],
        output: Output,
    ) -> None:
        """Takes a job that was submitted; `Head.submit` makes it."""
        self.job_id = job_id
        self._client, self._problem = client, problem
        self._log, self._seen, self._heard = JobLog(job_id, output), 0, 0

    def follow(self, show: Callable[[str], None], again: str) -> Ended:
        """Hands over what the verb says while it runs, and returns when it has ended; breaks of the line are bridged.

        Ctrl-C leaves at once, whatever the line does: it is raised here, and the job goes on.

        Args:
            show: gets what the verb says.
            again: the command that follows it again, for whoever has lost the line.

        Raises:
            ClusterError: the head answers no longer, or could not start the job.
        """
        lost_at: float | None = None
        while True:
            heard = self._heard
            try:
                self._tail(show)
                if (info := self._info()).status.is_terminal():
                    return self._ended(info)
                lost_at = None
            except _TROUBLE as error:
                if lost_at is None or self._heard > heard:  # the line stood until now, however long it said nothing
                    lost_at = time.monotonic()
                if time.monotonic() - lost_at > _LOST_S:
                    rule = f"the head answers while job {self.job_id} is followed"
                    raise self._problem(rule, error, f"The job goes on there; follow it again: {again}") from error
            time.sleep(_LOOK_S)

    def wait(self) -> Ended:
        """Returns when the verb has ended.

        Raises:
            ClusterError: the head answers no longer, or could not start the job.
        """
        try:
            while not (info := self._info()).status.is_terminal():
                time.sleep(_LOOK_S)
            return self._ended(info)
        except _TROUBLE as error:
            raise self._problem(f"the head answers while job {self.job_id} runs", error) from error

    def stop(self) -> None:
        """Ends a verb that nobody looks at any more."""
        with suppress(*_TROUBLE):
            self._client.stop_job(self.job_id)

    def _info(self) -> JobDetails:
        return self._client.get_job_info(self.job_id)

    def _tail(self, show: Callable[[str], None]) -> None:
        skipped = 0  # Ray begins every tail at the first line
        for text in _beside(self._client.tail_job_logs(self.job_id)):
            self._heard += 1
            new = text[max(0, self._seen - skipped) :]
            skipped += len(text)
            self._seen = max(self._seen, skipped)
            show(self._log.feed(new))

    def _ended(self, info: JobDetails) -> Ended:
        said = self._log.feed(self._client.get_job_logs(self.job_id)[self._seen :])
        if info.status == JobStatus.STOPPED:  # by `ray job stop`: it has drained
            return Ended(exit_code=Interrupted.exit_code, output=self._log.output() or b"", said=f"{said}stopped\n")
        if info.driver_exit_code is None:  # Ray could not start it
            raise self._problem(f"job {self.job_id} runs to its end", f"{info.status}: {info.message}")
        if info.driver_exit_code == NO_PYTHON:
            problem = Problem(
                where="python",
                rule="the head's `python` has what sweeper needs",
                remedy="Start Ray there inside the environment: . .venv/bin/activate && ray start --head",
            )
            raise ClusterError(problem)
        return Ended(exit_code=info.driver_exit_code, output=self._log.output() or b"", said=said)


def _beside(pieces: AsyncIterator[str]) -> Iterator[str]:
    """Yields what arrives in a thread of its own.

    In this thread asyncio would turn Ctrl-C into the cancellation of a task, which a line that breaks at that moment
    swallows. Whoever leaves leaves the thread behind, which ends with the process.
    """
    arrived: SimpleQueue[str | BaseException | None] = SimpleQueue()

    async def take() -> None:
        async for piece in pieces:
            arrived.put(piece)

    def take_all() -> None:
        try:
            asyncio.run(take())
            arrived.put(None)
        except BaseException as error:  # raised below
            arrived.put(error)

    threading.Thread(target=take_all, name="sweeper-follow", daemon=True).start()
    while (piece := arrived.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Keeps Ray from preferring RAY_ADDRESS to what it is handed."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _headers() -> dict[str, Any] | None:
    text = os.environ.get("RAY_JOB_HEADERS")
    if text is None:
        return None
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if isinstance(headers, dict):
        return headers
    rule, remedy = "is a JSON object of HTTP headers", """RAY_JOB_HEADERS='{"Authorization": "Bearer ..."}'"""
    raise SpecError(Problem(where="RAY_JOB_HEADERS", rule=rule, remedy=remedy))

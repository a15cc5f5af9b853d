"""How a job is followed when the head or the line to it fails (with a played client: a real one fails at random)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.errors import ClusterError, Problem

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

LOG = "Running entrypoint\njob:begin\nfirst\nsecond\nthird\njob:output\ntable\njob:end\n"
AGAIN = "sweeper logs --follow tiny --address head"


class Client:
    """A head whose line breaks after so many characters, once for each."""

    def __init__(self, breaks: list[int], code: int | None = 0, status: Any = "SUCCEEDED") -> None:
        self.breaks, self.code, self.status = breaks, code, status

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        length = self.breaks.pop(0) if self.breaks else len(LOG) - 10  # the tail may end before the log does
        for begin in range(0, length, 7):
            yield LOG[begin : min(begin + 7, length)]
        if self.breaks:
            raise RuntimeError("the line broke")

    def get_job_info(self, job_id: str) -> Any:
        status = self.status if self.status == "STOPPED" else SimpleNamespace(is_terminal=lambda: not self.breaks)
        return SimpleNamespace(status=status, driver_exit_code=self.code, message="no such package\nmore")

    def get_job_logs(self, job_id: str) -> str:
        return LOG


def problem(rule: str, got: BaseException | str, remedy: str | None = None) -> ClusterError:
    return ClusterError(Problem(where="head", rule=rule, got=str(got), remedy=remedy))


def job(*breaks: int, **how: Any) -> Any:
    from sweeper.execution.ray_jobs import VerbJob

    return VerbJob(Client(list(breaks), **how), "job", problem, "plain")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.execution.ray_jobs._LOOK_S", 0.0)


def test_a_line_that_breaks_is_taken_up_where_it_broke() -> None:
    shown: list[str] = []
    ended = job(0, 35, 3, 50).follow(shown.append, AGAIN)
    assert "".join(shown) + ended.said == "first\nsecond\nthird\n"
    assert (ended.exit_code, ended.output) == (0, b"table\n")


class Clock:
    """Time that passes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 20.0


class Old(Client):
    """A head whose line stands for an hour before it breaks; `away` times it is not there after a break."""

    def __init__(self, breaks: list[int], clock: Clock, away: int) -> None:
        super().__init__(breaks)
        self.clock, self.away, self.left = clock, away, 0

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        if self.left:
            self.left -= 1
            raise ConnectionError("connection refused")
        self.left = self.away
        breaks = bool(self.breaks)
        async for piece in super().tail_job_logs(job_id):
            yield piece
            if breaks:
                self.clock.now += 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("sweeper.execution.ray_jobs.time", clock)
    return clock


def old_job(clock: Clock, *breaks: int, away: int) -> Any:
    from sweeper.execution.ray_jobs import VerbJob

    return VerbJob(Old(list(breaks), clock, away), "job", problem, "plain")  # type: ignore[arg-type]


def test_a_line_that_breaks_after_hours_is_taken_up_again_each_time(clock: Clock) -> None:
    shown: list[str] = []
    ended = old_job(clock, 35, 3, 50, away=2).follow(shown.append, AGAIN)  # gone for 40 s each time
    assert "".join(shown) + ended.said == "first\nsecond\nthird\n"


def test_a_head_that_stays_away_is_given_up_after_a_minute_and_the_job_goes_on(clock: Clock) -> None:
    with pytest.raises(ClusterError, match=rf"connection refused.*The job goes on there.*{AGAIN}"):
        old_job(clock, 35, 3, away=9).follow(lambda text: None, AGAIN)
    assert clock.now - 5 * 3600.0 == 80.0, "five pieces, then the first look after a minute"


class Interrupted(Client):
    """A head whose line breaks at the moment at which the user presses Ctrl-C."""

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        if not self.breaks:
            raise RuntimeError("it was followed again")
        yield LOG[: self.breaks.pop()]
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise RuntimeError("the line broke") from None


def test_who_leaves_has_left_also_when_the_line_breaks_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper.execution.ray_jobs import VerbJob

    monkeypatch.setattr("sweeper.execution.ray_jobs._LOST_S", 1.0)
    with pytest.raises(KeyboardInterrupt):
        VerbJob(Interrupted([30]), "job", problem, "plain").follow(lambda text: None, AGAIN)  # type: ignore[arg-type]


def test_a_head_that_is_gone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.execution.ray_jobs._LOST_S", -1.0)
    with pytest.raises(ClusterError, match=r"the head answers while job job is followed.*the line broke"):
        job(5, 5).follow(lambda text: None, AGAIN)


def test_a_job_that_never_ran_is_no_failed_trial() -> None:
    with pytest.raises(ClusterError, match="no such package"):
        job(code=None, status="FAILED").wait()
    with pytest.raises(ClusterError, match=r"activate && ray start --head"):
        job(code=127).wait()


def test_a_job_that_was_stopped_is_an_interrupted_run() -> None:
    from ray.job_submission import JobStatus

    ended = job(code=None, status=JobStatus.STOPPED).wait()
    assert ended.exit_code == 130
    assert ended.said.endswith("stopped\n")


def test_the_verbs_exit_code_is_passed_on() -> None:
    assert job(code=1).wait().exit_code == 1

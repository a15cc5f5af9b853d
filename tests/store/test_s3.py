"""The store on a bad day of S3: refused, dropped, cut, stalled, for a while or for ever."""

import pickle
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sweeper.errors import StoreAway, StoreError
from sweeper.store import lease
from sweeper.store import s3 as s3_module
from sweeper.store.chain import Holder
from sweeper.store.opening import open_store
from sweeper.store.retrying import Outages, Patience, retried
from sweeper.store.s3 import S3Store
from sweeper.tracking.base import NullTracker

QUICK = Patience(total_s=20.0, first_s=0.01, longest_s=0.02)
SHORT = Patience(total_s=0.3, first_s=0.01, longest_s=0.02)
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>about {code}</Message></Error>"
STATUS = {"SlowDown": 503, "InternalError": 500, "ConditionalRequestConflict": 409, "AccessDenied": 403}
STATUS |= {"InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "NoSuchBucket": 404, "InvalidRequest": 400}
STATUS |= {"IllegalLocationConstraintException": 400}


class Weather(ThreadingHTTPServer):
    """Stands before an S3 server. The next requests meet one fault after the other, then all is well.

    A fault is the code of an S3 error, or `drop` (hangs up), `cut` (hangs up within the answer), `lost` (does what
    is asked and hangs up), `stall` (says nothing); an empty one
    lets a request through.
    """

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        self.behind = urlsplit(behind).netloc
        self.faults: list[str] = []
        self.for_ever: str | None = None
        self.seen: list[str] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Passing)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Weather

    def pass_on(self) -> None:
        weather = self.server
        weather.seen.append(self.command)
        fault = weather.for_ever or (weather.faults.pop(0) if weather.faults else None) or None
        if fault == "stall":
            weather.over.wait(60)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault in STATUS:
            self.answer(STATUS[fault], b"" if self.command == "HEAD" else ERROR.format(code=fault).encode())
        elif fault in (None, "cut", "lost"):
            with closing(HTTPConnection(weather.behind, timeout=60)) as behind:
                behind.request(self.command, self.path, body, dict(self.headers))
                found = behind.getresponse()
                data = found.read()
            if fault != "lost":
                self.answer(found.status, data, dict(found.getheaders()), cut=fault == "cut")
        if fault in ("drop", "cut", "lost", "stall"):
            self.close_connection = True

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        head = self.command == "HEAD" and headers is not None
        self.send_header("Content-Length", headers.get("Content-Length", "0") if head and headers else str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)

    do_GET = do_PUT = do_HEAD = do_DELETE = pass_on  # as the base class calls them

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def weather(s3_server: str, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weather]:
    server = Weather(s3_server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(weather: Weather, s3: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setattr(s3_module, "CONNECT_S", 1.0)
    monkeypatch.setattr(s3_module, "ANSWER_S", 1.0)
    store = S3Store(s3, patience=QUICK)
    store.put("states", "key", b"payload" * 1000)
    weather.seen.clear()
    return store


def ask(store: S3Store, verb: str) -> object:
    if verb == "put":
        return store.put("states", "other", b"payload" * 1000)
    if verb == "keys":
        return list(store.keys("states"))
    return getattr(store, verb)("states", "key")


ANSWERS = {"put": True, "get": b"payload" * 1000, "has": True, "keys": ["key"], "drop": None}


@pytest.mark.parametrize("verb", ANSWERS)
@pytest.mark.parametrize("fault", ["SlowDown", "InternalError", "ConditionalRequestConflict", "drop", "lost", "stall"])
def test_a_fault_that_passes_is_not_noticed(store: S3Store, weather: Weather, verb: str, fault: str) -> None:
    weather.faults = [fault] * (1 if fault == "stall" else 3)
    assert ask(store, verb) == ANSWERS[verb]
    assert not weather.faults
    assert store.get("states", "other") == (b"payload" * 1000 if verb == "put" else None)


def test_an_upload_that_stalls_is_made_again(store: S3Store, weather: Weather, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "SLOWEST", 1e9)
    payload = bytes(30_000_000)  # more than lies in the buffers on the way
    weather.faults = ["stall"]
    assert store.put("states", "large", payload)
    assert store.get("states", "large") == payload


def test_an_answer_cut_short_is_asked_for_again(store: S3Store, weather: Weather) -> None:
    weather.faults = ["cut", "cut"]
    assert store.get("states", "key") == b"payload" * 1000
    assert not list(store.files("damaged"))


def test_the_answer_to_a_put_that_lost_is_lost(store: S3Store, weather: Weather) -> None:
    store.put("states", "taken", b"by another")
    weather.faults = ["lost"]
    assert not store.put("states", "taken", b"mine")


@pytest.mark.parametrize("fault", ["SlowDown", "drop", "stall"])
def test_a_fault_that_stays_has_an_end(weather: Weather, store: S3Store, s3: str, fault: str) -> None:
    store._patience = SHORT
    weather.for_ever = fault
    began = time.monotonic()
    for verb in ANSWERS:
        with pytest.raises(
            StoreError, match=rf"{s3}: S3 must answer; it was asked for 0\.3 s\. Got .*AWS_ENDPOINT_URL"
        ):
            ask(store, verb)
    assert time.monotonic() - began < 60
    assert len(weather.seen) >= (5 if fault == "stall" else 6), "and again, where there is time"


def test_nobody_there_has_an_end(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"S3 must answer.*Could not connect"):
        S3Store(s3, patience=SHORT)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("AccessDenied", r"may not read or write it\. Got about AccessDenied.*s3:ListBucket.*AWS_PROFILE"),
        ("InvalidAccessKeyId", "who you are.*AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "who you are.*AWS_ACCESS_KEY_ID"),
        ("IllegalLocationConstraintException", "AWS_DEFAULT_REGION"),
        ("InvalidRequest", "must take the request.*about InvalidRequest"),
    ],
)
def test_what_will_not_pass_is_told_at_once(weather: Weather, store: S3Store, fault: str, words: str) -> None:
    weather.for_ever = fault
    for verb in ("put", "get", "keys", "drop"):
        weather.seen.clear()
        with pytest.raises(StoreError, match=words):
            ask(store, verb)
        assert len(weather.seen) <= 2  # of the region botocore assures itself


def test_who_has_no_credentials_is_told(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"who you are.*AWS_ACCESS_KEY_ID"):
        open_store(s3)


@pytest.mark.parametrize("create", [True, False])
def test_an_absent_bucket_is_told(s3: str, create: bool) -> None:
    with pytest.raises(StoreError, match=r"s3://absent/x: the bucket must exist"):
        open_store("s3://absent/x", create=create)


@pytest.mark.parametrize("address", ["s3://", "s3:///x"])
def test_a_store_needs_a_bucket(address: str) -> None:
    with pytest.raises(StoreError, match="BUCKET/PREFIX"):
        open_store(address)


def test_a_whole_bucket_may_be_a_store(s3: str, s3_server: str) -> None:
    from urllib.request import Request, urlopen

    with urlopen(Request(f"{s3_server}/whole", method="PUT"), timeout=30):
        store = open_store("s3://whole/")
    store.put("states", "key", b"payload")
    assert list(open_store("s3://whole", create=False).keys("states")) == ["key"]


def test_a_server_that_replaces_objects_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    pipe_file = S3FileSystem.pipe_file

    def careless(self: S3FileSystem, path: str, data: bytes, **options: object) -> object:
        return pipe_file(self, path, data)

    monkeypatch.setattr(S3FileSystem, "pipe_file", careless)
    for _ in range(2):  # nothing is left that would look like a store
        with pytest.raises(StoreError, match="honours If-None-Match"):
            open_store(s3)


def test_who_may_only_read_sees_damage_as_absence(store: S3Store, weather: Weather) -> None:
    store._s3().pipe_file(f"{store.address}/states/ke/key", b"damaged")
    weather.seen.clear()
    weather.faults = [*(2 * [""]), "AccessDenied"]
    assert store.get("states", "key") is None
    assert weather.seen == ["GET", "GET", "PUT"]
    assert store.has("states", "key")


def test_without_s3fs_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("s3fs", "botocore", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError, match=r"pip install 'sweeper\[s3\]'"):
        open_store("s3://bucket/x")


def test_who_waits_long_is_told_once_for_each_outage(
    store: S3Store, weather: Weather, s3: str, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [store, pickle.loads(pickle.dumps(store))]
    for each in stores:
        each._patience = replace(QUICK, silent_s=0.05, longest_s=0.2)
    for _ in range(2):
        weather.for_ever = "SlowDown"
        askers = [threading.Thread(target=each.has, args=("states", "key")) for each in 2 * stores]
        for asker in askers:
            asker.start()
        while len(weather.seen) < 40:
            time.sleep(0.01)
        weather.for_ever = None
        for asker in askers:
            asker.join()
        assert store.has("states", "key"), "it is over"
        weather.seen.clear()
    said = [record.message for record in caplog.records if record.name == "sweeper"]
    assert said == 2 * [f"{s3} does not answer; it is asked again for up to 20 s"]


def test_pauses_grow_up_to_a_limit_and_differ() -> None:
    patience = Patience(first_s=1.0, longest_s=8.0)
    pauses = [[patience.pause_s(attempt) for _ in range(200)] for attempt in range(6)]
    assert [max(some) <= limit for some, limit in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True)] == [True] * 6
    assert [max(some) > limit / 2 for some, limit in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True)] == [True] * 6
    assert len(set(pauses[0])) > 100


def test_what_does_not_pass_is_tried_once() -> None:
    calls: list[int] = []

    def fails(attempt: int) -> None:
        calls.append(attempt)
        raise KeyError(attempt)

    with pytest.raises(KeyError):
        retried(fails, lambda error: False, QUICK, Outages("x"))
    with pytest.raises(KeyError):
        retried(fails, lambda error: len(calls) < 4, QUICK, Outages("x"))
    assert calls == [0, 0, 1, 2]


def test_a_sweep_through_bad_weather_has_the_same_bits(
    weather: Weather, s3: str, engine: Any, grid: Path, grid_axes: dict[str, Any], reading: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(s3_module, "Patience", lambda: QUICK)
    weather.faults = ["", "", "SlowDown", "", "lost", "", "", "drop", "ConditionalRequestConflict", "cut", ""] * 40
    assert replace(engine, cache=None).run(s3, **grid_axes).status == "done"
    assert len(weather.seen) > 200
    weather.faults.clear()
    assert reading.same(grid, s3)


def test_a_sweep_whose_store_goes_away_ends_and_goes_on_later(
    weather: Weather, s3: str, engine: Any, grid: Path, grid_axes: dict[str, Any], reading: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(s3_module, "Patience", lambda: SHORT)
    from sweeper.execution.local import LocalBackend

    class Watching(LocalBackend):
        def run(self, job: Any) -> None:
            def note(events: list[Any]) -> None:
                job.on_events(events)
                if events[0].epoch == 3:
                    weather.for_ever = "drop"

            super().run(replace(job, on_events=note))

    with pytest.raises(StoreError, match=r"S3 must answer.*nothing is lost"):
        engine.run(s3, Watching, **grid_axes)
    weather.for_ever = None
    monkeypatch.setattr(Holder, "is_gone", lambda holder: True)  # as the next process finds it
    assert engine.run(s3, **grid_axes).status == "done"
    assert reading.same(grid, s3)


def test_a_run_that_gave_up_waits_for_nothing_on_its_way_out(
    engine: Any, weather: Weather, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, pulse and lease have something to write then, too; each would be patient by itself."""
    failed: list[int] = []

    def counted(call: Any, is_passing: Any, patience: Patience, outages: Outages) -> Any:
        attempts: list[int] = []

        def attempted(attempt: int) -> Any:
            attempts.append(attempt)
            return call(attempt)

        try:
            return retried(attempted, is_passing, patience, outages)
        except Exception:
            failed.append(len(attempts))
            raise

    class Storm(NullTracker):
        def push(self, view: object, trial_ids: object) -> None:
            weather.for_ever = "drop"

    monkeypatch.setattr(s3_module, "Patience", lambda: SHORT)
    monkeypatch.setattr(s3_module, "retried", counted)
    with pytest.raises(StoreAway, match="S3 must answer") as raised:
        engine.run(s3, tracker=Storm())
    assert raised.value.exit_code == 3
    patient = [attempts for attempts in failed if attempts > 1]
    assert 1 <= len(patient) <= 2, failed  # what ended the run, and perhaps what another thread was at
    assert len(failed) > len(patient)
    weather.for_ever = None
    monkeypatch.setattr(lease, "STALE_S", 0.2)  # this process lives on, so its lease is not free at once
    assert engine.run(s3, wait=True).status == "done"

"""Logs in the store: few objects, nothing lost that fits, and never an obstacle to training."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeper.errors import Problem, StoreError
from sweeper.store import logs
from sweeper.store.local import LocalStore
from sweeper.store.logs import LogReader, LogWriter, logs_to_drop, run_name, runs_of

RUN = run_name("grid.v2", 0.0, "abcdef0123456789")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def writer(store: LocalStore):
    writer = LogWriter(store, RUN, "node-1.lab.org-77")
    yield writer
    writer.close()


def texts(reader: LogReader) -> list[str]:
    return [line.text for line in reader.new()]


def test_what_is_said_is_read_once_and_in_order(store, writer) -> None:
    reader = LogReader(store, RUN)
    for number, text in enumerate(["one", "two\nlines", "three"]):
        writer.say(text, state_id="s" if number else None)
        writer.write()
    lines = reader.new()
    assert [line.text for line in lines] == ["one", "two\nlines", "three"]
    assert [(line.process, line.level, line.state_id) for line in lines[:2]] == [
        ("node-1-lab-org-77", "info", None),
        ("node-1-lab-org-77", "info", "s"),
    ]
    assert texts(reader) == []
    writer.say("four")
    writer.write()
    assert texts(reader) == ["four"]
    assert len(list(store.keys("logs"))) == 1, "a page that grows is one object"


def test_an_error_is_written_at_once(store, writer) -> None:
    writer.say("quiet")
    assert texts(LogReader(store, RUN)) == []
    writer.say("loud", level="error")
    assert texts(LogReader(store, RUN)) == ["quiet", "loud"]


def test_processes_are_put_in_order_by_time(store, writer, monkeypatch) -> None:
    clock = itertools.count(1.0)
    monkeypatch.setattr(logs, "time", SimpleNamespace(time=lambda: next(clock)))
    other = LogWriter(store, RUN, "driver")
    for speaker, text in ((writer, "a"), (other, "b"), (writer, "c")):
        speaker.say(text)
    writer.write()
    other.close()
    assert texts(LogReader(store, RUN)) == ["a", "b", "c"]


def test_a_long_log_keeps_its_beginning_and_its_end(store, writer) -> None:
    for number in range(3 * logs.MAX_PAGES):
        writer.say(f"{number} " + "x" * (logs.LINE_CHARS - 10))
        writer.say("y" * 10 * logs.PAGE_BYTES)  # cut
        writer.write()
    read = texts(LogReader(store, RUN))
    kept = [int(text.split()[0]) for text in read if text[0].isdigit()]
    assert kept[0] == 0
    assert kept[-1] == 3 * logs.MAX_PAGES - 1
    sizes = [len(store.get("logs", key) or b"") for key in store.keys("logs")]
    assert len(sizes) <= logs.MAX_PAGES
    assert max(sizes) <= logs.PAGE_BYTES + 1000
    assert max(map(len, read)) < logs.LINE_CHARS + 10


def test_a_store_that_cannot_be_written_costs_nothing_but_the_wait(store, writer, monkeypatch) -> None:
    def full(*args):
        raise StoreError(Problem(where="disk", rule="has room"))

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", full)
        writer.say("before", level="error")
    writer.say("after", level="error")
    assert texts(LogReader(store, RUN)) == ["before", "after"]


def test_what_could_not_be_written_comes_with_the_next_writing(store, writer, monkeypatch) -> None:
    """Also where more than a page came meanwhile, and where an attempt arrived of which nothing was heard."""
    monkeypatch.setattr(logs, "PAGE_BYTES", 400)
    put, attempts = store.put, itertools.count()

    def unheard(kind: str, key: str, payload: bytes) -> bool:
        number = next(attempts)
        if number == 0:
            put(kind, key, payload)
        if number < 3:
            raise StoreError(Problem(where="store", rule="answers"))
        return put(kind, key, payload)

    monkeypatch.setattr(store, "put", unheard)
    said = [f"line {number} " + "x" * 100 for number in range(12)]
    for text in said:
        writer.say(text)
        writer.write()
    assert texts(LogReader(store, RUN)) == said


def test_runs_are_listed_by_age_and_old_ones_can_go(store) -> None:
    for day, sweep in itertools.product(range(4), ("grid", "grid.v2")):
        log = LogWriter(store, run_name(sweep, day * 86400.0, f"{9 - day}" * 8), "driver")
        log.say("begins")
        log.close()
    runs = runs_of(store, "grid")
    assert runs[0].startswith("grid.19700101T")
    assert runs[-1].startswith("grid.19700104T")
    assert len(runs) == 4
    dropped = sorted(logs_to_drop(store, 3))
    assert [key.rpartition("T")[0] for key in dropped] == ["grid.19700101", "grid.v2.19700101"]

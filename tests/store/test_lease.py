"""One driver at a time: held, given back, left behind by the dead, taken over from the silent."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import Interrupted, Problem, StoreError
from sweeper.store import lease
from sweeper.store.chain import Holder
from sweeper.store.lease import ask, driven_sweep, driver_chain, held, latest
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store

HOLD = """\
import sys, time
from sweeper.store.lease import held
from sweeper.store.opening import open_store
with held(open_store(sys.argv[1]), "theirs"):
    print("held", flush=True)
    time.sleep(60)
"""


everywhere = pytest.mark.parametrize("store", ["local", "s3"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    on_s3 = getattr(request, "param", "local") == "s3"
    return open_store(request.getfixturevalue("s3") if on_s3 else tmp_path / "store")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 0.6)
    monkeypatch.setattr(lease, "_LOOK_S", 0.02)


def elsewhere(store: ObjectStore, number: int = 1, **fields: object) -> Holder:
    """Puts a lease of another host."""
    holder = replace(Holder.this_process("theirs"), host="node7", run_id="x", **fields)  # type: ignore[arg-type]
    driver_chain(store).put(number, holder)
    return holder


@everywhere
def test_a_second_driver_is_told_who_holds_the_store(store: ObjectStore) -> None:
    with held(store, "mine"):
        assert driven_sweep(store) == "mine"
        with pytest.raises(StoreError, match=r"process \d+ on .* which runs mine"), held(store, "other"):
            pytest.fail("two drivers")
    assert driven_sweep(store) is None
    with held(store, "other"):
        assert driven_sweep(store) == "other"


@everywhere
def test_a_killed_driver_frees_the_store_at_once(store: ObjectStore) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, store.address], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(StoreError, match=str(other.pid)), held(store, "mine"):
            pytest.fail("two drivers")
    finally:
        other.kill()
        other.communicate()
    with held(store, "mine"):
        assert driven_sweep(store) == "mine"


@pytest.mark.usefixtures("quick")
def test_the_chain_grows_while_it_is_held_and_is_kept_short(store: ObjectStore) -> None:
    with held(store, "mine"):
        first, _ = latest(store)
        time.sleep(0.5)
        assert latest(store)[0] > first + 2
    assert len(list(store.keys("leases"))) <= 3


@pytest.mark.usefixtures("quick")
def test_another_host_is_believed_while_its_number_grows(store: ObjectStore) -> None:
    elsewhere(store)
    waited: list[Holder] = []
    stop = threading.Event()

    def renews() -> None:
        number = 1
        while not stop.wait(0.1):
            number += 1
            elsewhere(store, number)

    renewing = threading.Thread(target=renews)
    renewing.start()
    threading.Timer(1.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StoreError, match="node7"), held(store, "mine"):
        pytest.fail("two drivers")
    with held(store, "mine", wait=True, on_wait=waited.append):
        assert time.monotonic() - began > 1.5 + 0.5, "a minute of silence after the last renewal"
        assert [holder.host for holder in waited] == ["node7"], "told once"
    renewing.join()


def test_who_waits_can_be_stopped(store: ObjectStore) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    waits = pytest.raises(Interrupted, match="while it waited")
    with held(store, "theirs"), waits, held(store, "mine", wait=True, gives_up=stop.is_set):
        pytest.fail("two drivers")


@pytest.mark.usefixtures("quick")
def test_what_another_host_gave_back_is_free(store: ObjectStore) -> None:
    elsewhere(store, released=True)
    with held(store, "mine"):
        assert driven_sweep(store) == "mine"


@pytest.mark.usefixtures("quick")
def test_who_was_taken_over_learns_it(store: ObjectStore) -> None:
    lost: list[Holder] = []
    with held(store, "mine", on_lost=lost.append):
        while not lost:  # somebody else puts the next number first
            elsewhere(store, latest(store)[0] + 1)
            time.sleep(0.01)
    assert lost[0].host == "node7"
    assert latest(store)[1].host == "node7", "what is not held any more is not given back"  # type: ignore[union-attr]


@everywhere
def test_of_many_racers_one_wins(store: ObjectStore) -> None:
    won: list[int] = []
    go = threading.Barrier(8)
    done = threading.Event()

    def race(index: int) -> None:
        go.wait()
        try:
            with held(store, f"sweep{index}"):
                won.append(index)
                done.wait(5)
        except StoreError:
            pass

    racers = [threading.Thread(target=race, args=(index,)) for index in range(8)]
    for racer in racers:
        racer.start()
    time.sleep(1.0)
    done.set()
    for racer in racers:
        racer.join()
    assert len(won) == 1


@everywhere
def test_a_wish_reaches_the_holder_and_nobody_after_it(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LISTEN_S", 0.05)
    monkeypatch.setattr(lease, "LISTEN_SHARED_S", 0.05)
    heard: list[str] = []
    with held(store, "mine", on_asked=heard.append):
        with pytest.raises(StoreError, match="other: only a sweep that runs can be ended"):
            ask(store, "other", "stop")
        ask(store, "mine", "stop")
        ask(store, "mine", "stop")
        give_up_at = time.monotonic() + 5
        while not heard and time.monotonic() < give_up_at:
            time.sleep(0.02)
        time.sleep(0.2)
        assert heard == ["stop"], "once"
    with pytest.raises(StoreError, match="Got no run"):
        ask(store, "mine", "stop")
    with held(store, "mine", on_asked=heard.append):
        time.sleep(0.3)
    assert heard == ["stop"], "a wish for one run moves no other"


@pytest.mark.usefixtures("quick")
def test_a_renewal_of_which_nothing_was_heard_is_no_loss(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Holder | None] = []
    put, failed = type(store).put, []

    def unheard(self: ObjectStore, kind: Any, key: str, payload: bytes) -> bool:
        done = put(self, kind, key, payload)
        if kind == "leases" and done and not failed:
            failed.append(key)
            raise StoreError(Problem(where="s3", rule="must answer"))
        return done

    with held(store, "mine", on_lost=lost.append):
        monkeypatch.setattr(type(store), "put", unheard)
        time.sleep(0.4)
        assert failed
        assert driven_sweep(store) == "mine"
    assert not lost
    assert driven_sweep(store) is None


@pytest.mark.usefixtures("quick")
def test_a_store_that_is_gone_ends_the_holding_without_a_second_error(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Holder | None] = []

    def gone(*args: object) -> None:
        raise StoreError(Problem(where="s3", rule="must answer"))

    with held(store, "mine", on_lost=lost.append):
        for verb in ("put", "get", "has", "keys", "drop"):
            monkeypatch.setattr(type(store), verb, gone)
        give_up_at = time.monotonic() + 20
        while not lost and time.monotonic() < give_up_at:
            time.sleep(0.02)
    assert lost == [None]

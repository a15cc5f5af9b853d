"""Chains of numbered objects, below leases and claims; how these use them is in their own tests."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.store.chain import Chain, Holder
from sweeper.store.local import LocalStore

ME = Holder.this_process("mine")
OTHER = replace(ME, host="node7", run_id="other")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def chain(store: LocalStore) -> Chain:
    return Chain(store, "claims", "chunk-1", digits=6)


def numbers(store: LocalStore) -> list[str]:
    return list(store.keys("claims"))


def test_each_number_is_put_once(chain: Chain) -> None:
    assert chain.last() == (0, None)
    assert chain.put(1, ME)
    assert not chain.put(1, OTHER)
    assert chain.put(1, ME), "again, when nothing was heard of it"
    assert chain.last() == (1, ME)


def test_the_last_two_stay(chain: Chain, store: LocalStore) -> None:
    for number in range(1, 5):
        assert chain.put(number, ME)
    assert numbers(store) == ["chunk-1.000003", "chunk-1.000004"]


def test_who_was_passed_by_does_not_put_an_old_number(chain: Chain, store: LocalStore) -> None:
    for number in range(1, 5):
        chain.put(number, OTHER)
    assert not chain.put(2, ME), "it was free again, since old numbers are dropped"
    assert numbers(store) == ["chunk-1.000003", "chunk-1.000004"]


def test_who_followed_stays_when_the_one_before_lets_go(chain: Chain, store: LocalStore) -> None:
    chain.put(1, ME)
    chain.put(2, OTHER)
    chain.remove(1)
    assert numbers(store) == ["chunk-1.000002"]


def test_chains_with_names_alike_are_apart(chain: Chain, store: LocalStore) -> None:
    Chain(store, "claims", "chunk-10", digits=6).put(7, OTHER)
    assert chain.last() == (0, None)
    assert chain.put(1, ME)
    chain.remove(1)
    assert numbers(store) == ["chunk-10.000007"]


def test_a_damaged_number_is_passed_over(chain: Chain, store: LocalStore) -> None:
    chain.put(1, ME)
    chain.put(2, OTHER)
    store.path("claims", "chunk-1.000002").write_bytes(b"damaged")
    assert chain.last() == (1, ME)


def test_silence_lasts_since_the_last_change_that_was_seen(chain: Chain) -> None:
    chain.put(1, OTHER)
    chain.last()
    assert not chain.is_silent(60)
    time.sleep(0.05)
    assert chain.is_silent(0.04)
    chain.put(2, OTHER)
    assert chain.last() == (2, OTHER)
    assert not chain.is_silent(60)

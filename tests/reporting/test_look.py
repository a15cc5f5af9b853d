"""A look at a sweep says what reading all of it says."""

import pytest

from sweeper.errors import StoreError
from sweeper.reporting.load import open_view
from sweeper.reporting.look import look_at
from sweeper.reporting.status import status_rows, status_text
from sweeper.store.ledger import ledger_path, open_ledger, remove_ledger
from sweeper.store.revisions import latest_fields

from .conftest import HandMade, bump


def same(store, sweep: str = "hand") -> list[dict[str, object]]:
    look, view = look_at(store, sweep), open_view(store, sweep)
    assert status_rows(look.standing) == status_rows(view.standing)
    assert status_text(look.standing) == status_text(view.standing)
    return status_rows(look.standing)


def test_of_a_sweep_that_is_done(hand) -> None:
    assert {row["status"] for row in same(hand.store)} == {"complete"}


def test_of_half_a_sweep_with_a_failure(tmp_path) -> None:
    made = HandMade(tmp_path / "half")
    made.measure(lambda trial, epoch: bump(trial, epoch) if epoch < 6 else None)
    made.fail(made.trial(start=5, length=2), 6)
    rows = same(made.store)
    assert {"open", "failed"} <= {row["status"] for row in rows}
    assert any("epoch 6" in str(row["failure"]) for row in rows)


def test_the_ledger_may_be_there_or_not(hand) -> None:
    remove_ledger(ledger_path(hand.store))
    before = same(hand.store)
    open_ledger(ledger_path(hand.store), hand.store).close()
    assert same(hand.store) == before


def test_cards_hold_every_state_of_the_trials(hand) -> None:
    cards = look_at(hand.store, "hand").standing.trials
    assert "cards" in latest_fields(hand.store, "hand")
    for trial_id, trial in open_view(hand.store, "hand").trials.items():
        assert cards[trial_id].state_ids == trial.lineage.state_ids
        assert cards[trial_id].stop == trial.stop


def test_a_revision_without_cards_is_read_whole(hand, monkeypatch) -> None:
    fields = latest_fields(hand.store, "hand")
    del fields["cards"]
    before = same(hand.store)
    monkeypatch.setattr("sweeper.reporting.look.latest_fields", lambda store, name: fields)
    assert same(hand.store) == before


def test_a_sweep_that_is_not_there_is_told(hand) -> None:
    with pytest.raises(StoreError, match="Known: hand"):
        look_at(hand.store, "other")

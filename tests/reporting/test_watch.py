"""A sweep that is watched: shown when it changes, until it is done or nobody trains it."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeper.reporting.load import open_view
from sweeper.reporting.look import look_at
from sweeper.reporting.status import status_rows, status_text
from sweeper.reporting.watch import Glance, watch
from sweeper.store.lease import held
from sweeper.store.pulse import AtWork, PulseWriter, read_pulse

from .conftest import HandMade, bump


@pytest.fixture
def half_done(tmp_path):
    made = HandMade(tmp_path / "half")
    return made.measure(lambda trial, epoch: bump(trial, epoch) if epoch < 3 else None)


def glance(look, pulse=None, *, is_driven=True) -> Glance:
    return Glance(look=look, pulse=pulse, is_driven=is_driven)


def test_a_sweep_is_shown_until_it_is_done(half_done, hand) -> None:
    begun, ended = look_at(half_done.store, "hand"), look_at(hand.store, "hand")
    views = iter([glance(begun), glance(begun), glance(ended)])
    file = io.StringIO()
    watch(lambda: next(views), Console(file=file, width=100), every_s=0.0)
    assert next(views, None) is None
    assert "Open:" in file.getvalue()
    assert file.getvalue().rstrip().endswith("done")


def test_watching_ends_when_nobody_trains_it(half_done) -> None:
    file = io.StringIO()
    watch(lambda: glance(look_at(half_done.store, "hand"), is_driven=False), Console(file=file, width=100), every_s=0.0)
    assert "nobody trains it now" in file.getvalue()


def test_who_trains_what_is_told_to_everybody_who_sees_the_store(half_done, monkeypatch) -> None:
    clock = iter([100.0, 102.0, 110.0, 400.0])
    monkeypatch.setattr("sweeper.store.pulse.time", SimpleNamespace(monotonic=lambda: next(clock)))
    trial = half_done.trial(start=2, length=1)
    workers = (
        AtWork(process="n1-7", segment_id="s1", epoch=3, first_epoch=3, last_epoch=6, trial_ids=(trial.trial_id,)),
        AtWork(process="n2-8", segment_id="s2", epoch=None, first_epoch=4, last_epoch=9, trial_ids=("gone",)),
    )
    with held(half_done.store, "hand") as lease:
        writer = PulseWriter(half_done.store, lease.run_id)
        assert read_pulse(half_done.store, "hand") is None
        writer.beat(0, 100, ())
        writer.beat(1, 99, ())  # too early
        assert read_pulse(half_done.store, "hand").trained == 0
        writer.beat(20, 80, workers)
        pulse = read_pulse(half_done.store, "hand")
        assert (pulse.epochs_per_second, pulse.seconds_left) == (2.0, 40.0)
        assert read_pulse(half_done.store, "another") is None
        assert len(list(half_done.store.keys("control"))) == 1
        view = open_view(half_done.store, "hand")
        text = status_text(view.standing, pulse)
        assert "20 of at most 100 epochs of this run, 2 per second, at most 40 s to go" in text
        assert f"n1-7: epoch 3 of 6, start=2 length=1 [{trial.trial_id[:8]}]" in text
        assert "n2-8: before epoch 4 of 9, s2" in text
        assert {row["trial_id"]: row["worker"] for row in status_rows(view.standing, pulse)}[trial.trial_id] == "n1-7"
        writer.beat(20, 80, workers)
        assert read_pulse(half_done.store, "hand").epochs_per_second is None, "five minutes later"
        writer.close()
    assert list(half_done.store.keys("control")) == []
    assert read_pulse(half_done.store, "hand") is None

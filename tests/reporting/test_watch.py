"""A sweep that is watched: shown when it changes, until it is done or nobody trains it."""

import io

import pytest
from rich.console import Console

from sweeper.reporting.load import open_view
from sweeper.reporting.watch import watch

from .conftest import HandMade, bump


@pytest.fixture
def half_done(tmp_path):
    made = HandMade(tmp_path / "half")
    return made.measure(lambda trial, epoch: bump(trial, epoch) if epoch < 3 else None)


def test_a_sweep_is_shown_until_it_is_done(half_done, hand) -> None:
    begun, ended = open_view(half_done.store, "hand"), open_view(hand.store, "hand")
    views = iter([(begun, True), (begun, True), (ended, True)])
    file = io.StringIO()
    watch(lambda: next(views), Console(file=file, width=100), every_s=0.0)
    assert next(views, None) is None
    assert "Open:" in file.getvalue()
    assert file.getvalue().rstrip().endswith("done")


def test_watching_ends_when_nobody_trains_it(half_done) -> None:
    file = io.StringIO()
    watch(lambda: (open_view(half_done.store, "hand"), False), Console(file=file, width=100), every_s=0.0)
    assert "nobody trains it now" in file.getvalue()

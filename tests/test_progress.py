"""What a user sees while nothing seems to happen."""

import io
import re
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeper import progress
from sweeper.progress import BarProgress, LineProgress

EPOCH = SimpleNamespace(epoch=3, val_loss=12.5, seconds=0.5)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capfd):
    """A display for pipes that is quick, and what it has written so far."""
    monkeypatch.setattr(progress, "FIRST_LINE_AFTER_S", 0.1)
    monkeypatch.setattr(progress, "SILENT_FOR_S", 0.3)
    shown = LineProgress()
    seen: list[str] = []

    def written() -> list[str]:
        seen.extend(capfd.readouterr().err.splitlines())
        return seen

    yield shown, written
    shown.stop()


def wait_for(written, count: int) -> list[str]:
    give_up_at = time.monotonic() + 30
    while len(written()) < count and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return written()


def test_what_takes_long_is_named_and_named_again(lines) -> None:
    shown, written = lines
    shown.phase("reading data")
    found = wait_for(written, 3)
    assert found[0] == "reading data ..."
    assert all(re.fullmatch(r"reading data: \d+ s", line) for line in found[1:])


def test_what_is_quick_is_not_worth_a_line(lines, monkeypatch) -> None:
    shown, written = lines
    monkeypatch.setattr(progress, "FIRST_LINE_AFTER_S", 20.0)
    for number in range(50):
        shown.phase(f"step {number}")
    shown.start(epochs=9, trials=2)
    shown.epoch(EPOCH, 8)
    shown.epoch(EPOCH, 0)
    shown.stop()
    assert [line.partition(",")[0] for line in written()] == ["2 trials", "2 epochs trained"]


def test_epochs_end_the_naming(lines) -> None:
    shown, written = lines
    shown.phase("workers load")
    wait_for(written, 1)
    shown.epoch(EPOCH, 5)
    before = len(written())
    time.sleep(1.0)
    assert len(written()) == before


def test_a_terminal_shows_a_phase_then_a_bar_then_nothing() -> None:
    file = io.StringIO()
    shown = BarProgress(Console(file=file, force_terminal=True, width=100))
    shown.phase("reading data")
    shown.phase("starting Ray")
    shown.start(epochs=9, trials=2)
    shown.phase("workers load")
    shown.epoch(EPOCH, 5)
    shown.note("a line")
    shown.stop()
    shown.phase("tracking")
    shown.stop()
    shown.stop()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    places = [text.index(what) for what in ("starting Ray", "2 trials", "epoch 3, val_loss 12.50", "tracking")]
    assert places == sorted(places)
    assert "a line\n" in text


def test_frozen_features_have_a_line_now_and_then_and_a_bar_on_a_terminal(lines, monkeypatch) -> None:
    shown, written = lines
    shown.features(1, 3)
    assert written() == []
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    shown.features(64, 1854)
    assert written() == ["frozen features: 64 of 1,854 computed, once for all trials"]
    file = io.StringIO()
    bar = BarProgress(Console(file=file, force_terminal=True, width=100))
    bar.start(epochs=9, trials=2)
    for done in (64, 128, 1854):
        bar.features(done, 1854)
    bar.epoch(EPOCH, 5)
    bar.stop()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert "frozen features" in text
    assert "/1854 images" in text
    assert "frozen features" not in text[text.rindex("epoch 3") :]

import pytest

from sweeper.reporting.load import open_view
from sweeper.reporting.status import STAND_IN, status_rows, status_text
from sweeper.reporting.text import header, recovery_text, render

from .conftest import GRID, HandMade, bump


@pytest.fixture
def view(hand):
    return open_view(hand.store, "hand")


def test_the_header_says_what_is_shown(view):
    text = header(view)
    assert "hand (revision 1): 4 trials, 1 baseline; 5 complete" in text
    assert all(
        part in text
        for part in ("RSA (correlation RDM) against behavioral48", "before training: 0.300", "`clean`", "1 %")
    )
    assert STAND_IN not in text


def test_a_stand_in_is_marked(tmp_path):
    hand = HandMade(tmp_path / "store").measure(bump)
    spec = hand.spec.model_copy(update={"stand_in": True, "name": "other"})
    from sweeper.store.sweeps import save_revision

    save_revision(hand.store, spec, "", hand.trials, hand.items)
    assert STAND_IN in render(open_view(hand.store, "other"))


def test_the_shown_comparator_stands_first_and_the_others_beside_it(view):
    text = render(view)
    titles = next(line for line in text.splitlines() if "published" in line and "status" in line)
    assert titles.index("clean") < titles.index("published") < titles.index("fixed")
    line = next(line for line in text.splitlines() if line.split()[:3] == ["2", "1", "trial"])
    assert line.split()[-8:] == ["-0.250", "1", "NR", "(>", "4)", "NR", "(>", "4)"]


def test_a_grid_is_shown_by_all_comparators(view):
    matrix = render(view).split("Recovery in epochs")[1].splitlines()
    assert matrix[4].split() == ["2", "NR", "NR", "|", "NR", "NR", "|", "1", "1"]


def test_a_narrow_terminal_loses_columns_but_no_text(view):
    wide, narrow = render(view), render(view, width=70)
    assert max(map(len, narrow.split("Recovery in")[0].splitlines()[5:])) <= 70
    assert "…" not in wide + narrow
    assert "recovery" in narrow
    assert "max" in wide


def test_without_a_terminal_there_is_no_colour(view):
    assert "\x1b" not in render(view)
    assert "\x1b" in render(view, width=120, color=True)


@pytest.mark.parametrize(("status", "expected"), [("complete", "NR (> 7)"), ("open", "(> 7)")])
def test_recovery_text(status, expected):
    row = {"status": status, "epochs_seen_after_window": 7, "recovery_loss_epochs_clean": None}
    assert recovery_text(row, "clean") == expected
    assert recovery_text({**row, "recovery_loss_epochs_clean": 3}, "clean") == "3"
    assert recovery_text({"epochs_seen_after_window": None}, "clean") == ""


def test_failures_and_open_trials_are_told(tmp_path):
    hand = HandMade(tmp_path / "store").measure(lambda trial, epoch: bump(trial, epoch) if epoch < 6 else None)
    hand.fail(hand.trial(start=5, length=2), 6)
    view = open_view(hand.store, "hand")
    assert "Failed:\n  epoch 6: val_loss is nan: start=5 length=2 [" in render(view)
    text = status_text(view.standing)
    assert "epoch 5 of at most 10" in text
    assert "val_loss is nan" in text
    assert [row["status"] for row in status_rows(view.standing)].count("failed") == 1


def test_swept_names_are_as_short_as_they_can_be(tmp_path):
    text = GRID.replace(
        "perturbation.length: [1, 2]", "perturbation.length: [1]\n  training.optimizer.lr: [1e-2, 1e-3]"
    )
    lines = render(open_view(HandMade(tmp_path / "store", text).store, "hand")).splitlines()
    assert next(line for line in lines if "status" in line).split()[:4] == ["start", "length", "lr", "role"]

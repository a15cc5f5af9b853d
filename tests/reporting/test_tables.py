import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from sweeper.reporting.formats import FORMATS, dump, write
from sweeper.reporting.load import open_view
from sweeper.reporting.tables import TOLERANCES, curve_rows, swept_fields, tolerance_rows, trial_rows
from sweeper.reporting.view import plain

from .conftest import GRID, HandMade, bump

ASKED = ("trial_id", "role", "status", "perturbation.start", "perturbation.length")
MEASURED = (
    *("best_val_loss", "final_val_loss", "rsa_at_best_val_loss", "final_rsa", "max_rsa", "last_epoch"),
    *(f"recovery_{what}_epochs{by}" for what in ("loss", "rsa") for by in ("", "_published", "_fixed", "_clean")),
    *("recovery_loss_epochs_at_least", "recovered"),
)


@pytest.fixture
def view(hand):
    return open_view(hand.store, "hand")


def row_of(view, trial):
    return next(row for row in trial_rows(view) if row["trial_id"] == trial.trial_id)


def test_every_row_has_the_columns_that_others_build_on(view):
    rows = trial_rows(view)
    assert [row["role"] for row in rows] == ["trial"] * 4 + ["baseline"]
    assert all({*ASKED, *MEASURED} <= set(row) for row in rows)
    assert len({tuple(row) for row in rows}) == 1
    assert swept_fields(view) == ("perturbation.start", "perturbation.length")


def test_a_trial_by_hand(hand, view):
    """start 2, length 1: losses 20, 15, 12.5, 11.25, 10.625 at epochs 2..6; the baseline is one epoch ahead."""
    row = row_of(view, hand.trial(start=2, length=1))
    expected = {
        "status": "complete",
        "perturbation.start": 2,
        "perturbation.length": 1,
        "best_val_loss": 10.625,
        "best_epoch": 6,
        "final_val_loss": 10.625,
        "rsa_at_best_val_loss": pytest.approx(0.7765625),
        "max_rsa": pytest.approx(0.7765625),
        "last_epoch": 6,
        "rsa_untrained": pytest.approx(0.3),
        "delta_val_loss": 5.0,
        "delta_rsa_behavioral": pytest.approx(-0.25),
        "recovery_loss_epochs_clean": 1,
        "recovery_loss_epochs_published": None,
        "recovery_loss_epochs_fixed": None,
        "recovery_rsa_epochs_clean": 4,
        "recovery_rsa_epochs_published": None,
        "recovery_loss_epochs": 1,
        "recovery_rsa_epochs": 4,
        "recovery_loss_epochs_at_least": 1,
        "recovered": 1,
        "epochs_seen_after_window": 4,
        "comparator": "clean",
        "rsa_reference": "behavioral48",
        "stand_in": False,
        "failure": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_a_baseline_has_no_recovery_and_no_window(hand, view):
    row = row_of(view, hand.baseline)
    assert row["best_epoch"] == row["last_epoch"] == 10
    assert all(row[name] is None for name in row if "recovery" in name or "delta" in name or "perturbation" in name)


def test_not_recovered_holds_the_epochs_seen(tmp_path):
    text = GRID.replace("comparator: clean", "comparator: published")
    hand = HandMade(tmp_path / "store", text).measure(bump)
    row = row_of(open_view(hand.store, "hand"), hand.trial(start=2, length=1))
    assert (row["recovery_loss_epochs"], row["recovered"], row["recovery_loss_epochs_at_least"]) == (None, 0, 4)


def test_recovery_waits_for_the_baseline(tmp_path):
    def half(trial, epoch):
        return None if trial.role == "baseline" and epoch > 7 else bump(trial, epoch)

    hand = HandMade(tmp_path / "store").measure(half)
    row = row_of(open_view(hand.store, "hand"), hand.trial(start=2, length=1))
    assert row["status"] == "complete"
    assert row["delta_val_loss"] == 5.0
    assert row["recovery_loss_epochs_clean"] is row["max_rsa_deviation"] is row["recovered"] is None


def test_an_open_trial_is_not_called_unrecovered(tmp_path):
    def cut(trial, epoch):
        return None if trial.role == "trial" and epoch > 5 else bump(trial, epoch)

    text = GRID.replace("comparator: clean", "comparator: published")
    hand = HandMade(tmp_path / "store", text).measure(cut)
    rows = {row["status"]: row for row in trial_rows(open_view(hand.store, "hand"))}
    assert set(rows) == {"open", "complete"}
    assert rows["open"]["recovered"] is None


def test_nothing_measured_is_none_everywhere(tmp_path):
    hand = HandMade(tmp_path / "store")
    row = row_of(open_view(hand.store, "hand"), hand.trial(start=2, length=1))
    assert row["status"] == "open"
    assert {row[name] for name in MEASURED} == {None}


def test_an_undefined_rsa_is_none_and_the_rest_goes_on(tmp_path):
    hand = HandMade(tmp_path / "store").measure(lambda trial, epoch: {**bump(trial, epoch), "rsa": None})
    row = row_of(open_view(hand.store, "hand"), hand.trial(start=2, length=1))
    assert row["rsa_at_best_val_loss"] is row["recovery_rsa_epochs_clean"] is row["max_rsa_deviation"] is None
    assert row["recovery_loss_epochs_clean"] is not None


def test_failures_reach_every_trial_through_the_state(tmp_path):
    def until_six(trial, epoch):
        return None if trial.config.start == 5 and epoch == 6 else bump(trial, epoch)

    hand = HandMade(tmp_path / "store").measure(until_six)
    failed, other = hand.trial(start=5, length=2), hand.trial(start=5, length=1)
    hand.fail(failed, 6)
    view = open_view(hand.store, "hand")
    assert view.status(failed.trial_id) == "failed"
    assert row_of(view, failed)["failure"] == "epoch 6: val_loss is nan"
    assert view.status(other.trial_id) == "open"
    assert view.standing.counts() == {"complete": 3, "open": 1, "failed": 1}


def test_a_failed_baseline_fails_what_forks_later(tmp_path):
    hand = HandMade(tmp_path / "store").measure(lambda trial, epoch: bump(trial, epoch) if epoch < 3 else None)
    hand.fail(hand.baseline, 3)
    view = open_view(hand.store, "hand")
    assert view.status(hand.trial(start=2, length=1).trial_id) == "open"
    assert view.failure(hand.trial(start=5, length=1).trial_id) == "epoch 3: val_loss is nan"


def test_a_start_beyond_the_baselines_end_says_so(tmp_path):
    text = GRID.replace("{rule: horizon, horizon_after_window: 4}", "{rule: vp, patience: 2}")

    def flat(trial, epoch):
        return {**bump(trial, epoch), "val_loss": 5.0 if epoch else 6.0} if epoch < 4 else None

    hand = HandMade(tmp_path / "store", text).measure(flat)
    view = open_view(hand.store, "hand")
    assert view.status(hand.baseline.trial_id) == "complete"
    reason = "start 5 lies beyond the baseline's end (epoch 3)"
    assert view.failure(hand.trial(start=5, length=1).trial_id) == reason


def test_curves_hold_the_trunk_from_epoch_0(hand, view):
    rows = [row for row in curve_rows(view) if row["trial_id"] == hand.trial(start=5, length=1).trial_id]
    assert [row["epoch"] for row in rows] == list(range(10))
    assert list(rows[0])[:5] == ["trial_id", "epoch", "train_loss", "val_loss", "rsa_behavioral"]
    assert rows[0]["train_loss"] is None
    assert rows[4]["val_loss"] == 11.25
    assert rows[5]["val_loss"] == 10.625 + 5.0


def test_tolerances_by_hand(hand, view):
    trial = hand.trial(start=2, length=1)
    rows = [row for row in tolerance_rows(view, (0.0, 0.05, 0.1)) if row["trial_id"] == trial.trial_id]
    found = {(row["comparator"], row["tolerance"]): row["recovery_loss_epochs"] for row in rows}
    assert [found["clean", tolerance] for tolerance in (0.0, 0.05, 0.1)] == [1, 1, 1]
    assert [found["published", tolerance] for tolerance in (0.0, 0.05, 0.1)] == [
        None,
        4,
        3,
    ]  # 5.9 % over at 5, 3 % at 6
    assert len(tolerance_rows(view)) == 4 * 3 * len(TOLERANCES)


def test_csv_is_empty_and_json_null_where_nothing_is(view):
    rows = trial_rows(view)
    read = json.loads(dump(rows, "json"))
    assert read == rows
    lines = list(csv.DictReader(io.StringIO(dump(rows, "csv").decode())))
    assert lines[0]["recovery_loss_epochs_published"] == ""
    assert float(lines[0]["rsa_at_best_val_loss"]) == rows[0]["rsa_at_best_val_loss"]
    assert lines[-1]["perturbation.start"] == ""


def test_parquet_keeps_kinds_and_nulls(view, tmp_path):
    path = tmp_path / "rows.parquet"
    write(trial_rows(view), "parquet", path)
    table = pq.read_table(path)
    assert str(table.schema.field("perturbation.start").type) == "int64"
    assert table.column("recovery_loss_epochs_published").null_count >= 1
    assert table.column("best_val_loss").to_pylist() == [row["best_val_loss"] for row in trial_rows(view)]


def test_values_of_several_kinds_become_text_in_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    write([{"a": 1, "b": True}, {"a": "x", "b": None}, {"a": 2.5, "b": False}], "parquet", path)
    assert pq.read_table(path).to_pylist() == [{"a": "1", "b": True}, {"a": "x", "b": None}, {"a": "2.5", "b": False}]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_never_nan(value):
    assert json.loads(dump([{"a": value}], "json")) == [{"a": None}]
    assert dump([{"a": value, "b": 1}], "csv") == b"a,b\n,1\n"


@pytest.mark.parametrize("format_", FORMATS)
def test_an_empty_table_has_its_header(format_):
    data = dump([], format_, columns=["trial_id", "epoch"])
    if format_ == "parquet":
        assert pq.read_table(io.BytesIO(data)).column_names == ["trial_id", "epoch"]
    else:
        expected = {"csv": b"trial_id,epoch\n", "json": b"[]\n", "text": b"trial_id  epoch\n"}
        assert data == {**expected, "envelope": b'{"schema_version": 1, "rows": []}\n'}[format_]


def test_text_streams_and_paths_get_the_same(view, tmp_path):
    stream = io.StringIO()
    write(trial_rows(view), "csv", stream)
    write(trial_rows(view), "csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == stream.getvalue()


def test_a_swept_section_is_readable():
    assert plain({"kind": "freeze", "value": 1}) == '{"kind": "freeze", "value": 1}'

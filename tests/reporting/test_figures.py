import io
from itertools import islice

import pytest

from sweeper.reporting import html
from sweeper.reporting.curves import curves_info, s_curve_info
from sweeper.reporting.effects import delta_info, tolerance_info
from sweeper.reporting.figures import DPI, figures, save_figures
from sweeper.reporting.html import html_report, write_report
from sweeper.reporting.load import open_view
from sweeper.reporting.maps import deviation_info, draw_recovery, recovery_info
from sweeper.reporting.status import STAND_IN
from sweeper.store.sweeps import save_revision

from .conftest import GRID, HandMade, bump

KINDS = GRID.replace("perturbation: {kind: random_target}\n", "").replace(
    "axes:", "axes:\n  perturbation.kind: [random_target, freeze]"
)
PLAIN = GRID.split("perturbation:")[0] + "axes: {seeds: [1, 2]}\n"


@pytest.fixture
def view(hand):
    return open_view(hand.store, "hand")


def test_recovery_maps_hold_the_cells(view):
    info = recovery_info(view)
    (row,) = info.rows
    assert (row.starts, row.lengths) == ((2, 5), (1, 2))
    published, fixed, clean = row.maps
    assert clean.title == "clean (the spec's)"
    assert clean.values[0] == (1, 1)
    assert published.values[0] == (None, None)
    assert published.censored[0] == (True, True)
    assert published.texts[0][0] == "NR\n> 4"
    assert not any(clean.censored[0])
    assert fixed.values[0] == (None, None)


def test_deviations_by_hand(view):
    published, same_epochs, loss = deviation_info(view).rows[0].maps
    baseline_peak, baseline_min = 0.8 - 0.5 * 0.5**10, 10 + 20 * 0.5**10
    assert published.values[0][0] == pytest.approx(0.7765625 - baseline_peak)
    assert same_epochs.values[0][0] == pytest.approx(0.7765625 - baseline_peak)
    assert loss.values[0][0] == pytest.approx(10.625 - baseline_min)


def test_delta_and_tolerance_by_hand(view):
    assert delta_info(view).val_loss == {"": {2: 5.0, 5: 5.0}}
    assert delta_info(view).rsa[""] == pytest.approx({2: -0.25, 5: -0.25})
    info = tolerance_info(view)
    assert info.num_trials == 4
    assert info.not_recovered["fixed"][0.01] == 4
    assert list(info.not_recovered["clean"].values()) == sorted(info.not_recovered["clean"].values(), reverse=True)


def test_curves_have_a_panel_per_start_and_the_s_curve_is_trimmed(view):
    panels = curves_info(view).panels
    assert [panel.title for panel in panels] == ["start 2", "start 5"]
    assert [line.window for line in panels[0].lines] == [(2, 2), (2, 3)]
    assert min(panels[1].lines[0].val_loss) == 5
    assert min(panels[1].baseline.val_loss) == 0
    (line,) = s_curve_info(view).lines
    assert set(line.rsa) == set(range(1, 11))


def test_kinds_are_drawn_beside_each_other(tmp_path):
    view = open_view(HandMade(tmp_path / "store", KINDS).measure(bump).store, "hand")
    panels = curves_info(view).panels
    assert [panel.title for panel in panels][:2] == ["start 2, length 1", "start 2, length 2"]
    assert [line.label for line in panels[0].lines] == ["kind random_target", "kind freeze"]
    assert [row.label for row in recovery_info(view).rows] == ["kind random_target", "kind freeze"]


def test_files_are_made_and_are_the_same_again(view, tmp_path):
    first = save_figures(view, tmp_path / "figures")
    names = ["recovery", "recovery_rsa", "recovery_by_tolerance", "delta_by_start", "deviation", "s_curve", "curves_1"]
    assert [path.stem for path in first] == names
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in first)
    again = io.BytesIO()
    draw_recovery(recovery_info(view)).savefig(again, dpi=DPI, metadata={"Software": None})
    assert first[0].read_bytes() == again.getvalue()


def test_a_sweep_without_windows_has_curves_only(tmp_path):
    view = open_view(HandMade(tmp_path / "store", PLAIN).measure(bump).store, "hand")
    assert recovery_info(view) is deviation_info(view) is delta_info(view) is tolerance_info(view) is None
    assert [path.stem for path in save_figures(view, tmp_path / "figures")] == ["s_curve", "curves_1"]


def test_nothing_measured_draws_nothing_that_breaks(tmp_path):
    view = open_view(HandMade(tmp_path / "store").store, "hand")
    save_figures(view, tmp_path / "figures")
    assert "hand" in html_report(view)


def test_the_report_of_a_stand_in_says_that_the_spec_was_replaced(tmp_path):
    hand = HandMade(tmp_path / "store")
    spec = hand.spec.model_copy(update={"stand_in": True, "name": "other"})
    save_revision(hand.store, spec, "model: {backbone: ViT-L-14}", hand.trials, hand.items)
    text = html_report(open_view(hand.store, "other"))
    assert text.count(STAND_IN) == 1
    assert "<code>--stand-in</code> replaced" in text
    assert "<code>--stand-in</code>" not in html_report(open_view(HandMade(tmp_path / "real").store, "hand"))


def test_the_report_holds_everything_in_one_file(hand, view, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "figures", lambda view, *more: islice(figures(view), 1))
    path = tmp_path / "deep" / "report.html"
    write_report(view, path, hand.store)
    text = path.read_text()
    assert text == html_report(view, hand.store)
    for part in ("data:image/png;base64,", "NR (&gt; 4)", "Selection:", "Comparator:", "horizon_after_window"):
        assert part in text
    assert '<meta name="viewport"' in text  # else a phone shows it at the width of a desk's screen
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert 'src="http' not in text

"""`sweeper ui` without a server, and the view that it saves; tests/browser looks at the page itself."""

import base64
import json
import socket
import zlib
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import TrackingError
from sweeper.tracking import saved_view as module
from sweeper.tracking.saved_view import Shown, saved_view, swept
from sweeper.tracking.ui import serve

SWEEP = "small@0123"


def shown(role: str = "trial", recovery: str | None = "3", **params: str) -> Shown:
    tags = {"sweeper.role": role} | ({} if recovery is None else {"sweeper.recovery": recovery})
    metrics = {"best_val_loss": 1.0, "val/loss": 2.0} | ({} if recovery is None else {module.AT_LEAST: 3.0})
    return Shown(params={name.replace("__", "."): value for name, value in params.items()}, metrics=metrics, tags=tags)


def state_of(*runs: Shown) -> dict[str, Any]:
    envelope = json.loads(saved_view("7", SWEEP, runs, 5).value)
    assert (envelope["name"], envelope["createdAt"]) == ("sweeper small", 5)
    packed = envelope["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def grid() -> list[Shown]:
    trials = [
        shown(perturbation__start=str(start), perturbation__length=str(length), model__rank="8")
        for start in (2, 3)
        for length in (1, 2)
    ]
    return [shown("sweep", None), shown("baseline", None, model__rank="8"), *trials]


def test_axes_are_what_differs_between_trials_start_and_length_first() -> None:
    assert swept(grid()) == ["perturbation.start", "perturbation.length"]
    controls = [shown("control", a="1", perturbation__kind="x"), shown("control", a="2", perturbation__kind="y")]
    assert swept(controls) == ["perturbation.kind", "a"]


def test_the_view_of_a_grid() -> None:
    state = state_of(*grid())
    assert state["searchFilter"] == f"tags.`sweeper.sweep_id` = '{SWEEP}' and tags.`sweeper.role` != 'sweep'"
    assert state["selectedColumns"][:3] == [
        "params.`perturbation.start`",
        "params.`perturbation.length`",
        "tags.`sweeper.recovery`",
    ]
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert kinds == ["PARALLEL", "CONTOUR", "SCATTER", "LINE"]
    assert state["compareRunCharts"][0]["selectedMetrics"] == ["recovery/loss_epochs_at_least"]


def test_a_sweep_without_windows_compares_its_best_losses() -> None:
    state = state_of(shown(recovery=None, rank="1"), shown(recovery=None, rank="2"))
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["PARALLEL", "SCATTER", "LINE"]
    assert state["compareRunCharts"][0]["selectedMetrics"] == ["best_val_loss"]
    assert "tags.`sweeper.recovery`" not in state["selectedColumns"]


def test_the_view_fits_into_a_tag_however_many_axes_there_are() -> None:
    runs = [shown(**{f"group{axis}__field_with_a_long_name": str(run) for axis in range(40)}) for run in range(50)]
    assert len(saved_view("7", SWEEP, runs, 5).value) < 5000


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"127.0.0.1:{port}: the port must be free.*--port"):
            serve(tmp_path, None, port=port, tracking_uri="sqlite:///nowhere.db")


def test_a_server_shows_its_own_page(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="Open this address in a browser"):
        serve(tmp_path, None, port=5000, tracking_uri="http://lab:5000")

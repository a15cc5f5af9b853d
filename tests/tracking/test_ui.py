"""`sweeper ui` without a server, and the view that it saves; tests/browser looks at the page itself."""

import base64
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
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


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A tracking server with one sweep, which answers three questions; its address, and what it was asked."""
    asked: list[str] = []
    tags = [{"key": "sweeper.sweep_id", "value": SWEEP}, {"key": "sweeper.role", "value": "sweep"}]
    runs = [{"info": {"experiment_id": "7", "start_time": 5}, "data": {"tags": tags}}]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(
                {"experiments": [{"experiment_id": "7"}]} if "experiments/" in self.path else {"runs": runs}
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()
        thread.join()


def test_a_server_shows_its_own_page_and_is_told_the_view(
    server: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, asked = server
    assert serve(tmp_path, None, port=5000, tracking_uri=address) == 0
    assert capsys.readouterr().err == f"{address}/\n"
    assert serve(tmp_path, "small", port=5000, tracking_uri=address) == 0
    assert capsys.readouterr().err.startswith(f"{address}/#/experiments/7")
    assert asked[-1].endswith("set-experiment-tag")
    with pytest.raises(TrackingError, match="must have been tracked here"):
        serve(tmp_path, "other", port=5000, tracking_uri=address)


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="a tracking server answers") as caught:
        serve(tmp_path, "small", port=5000, tracking_uri="http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)

"""The MLflow page of a sweep in a real browser, as `sweeper ui` opens it."""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial, resolve
from sweeper.reporting.summary import summary_of
from sweeper.store.local import LocalStore
from sweeper.store.sweeps import save_revision
from sweeper.tracking.mlflow_tracker import sync
from tests.tracking.conftest import Sweep

_CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
_START_S, _STOP_S, _STEP_MS = 90, 40, 30_000
_STARTS, _LENGTHS, _NEVER = (2, 4, 6), (1, 2, 3), ((4, 3), (6, 3))
_AT_LEAST = "recovery/loss_epochs_at_least"

pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium here: scripts/system-packages.sh installs it")


class Grid(Sweep):
    """Starts by lengths; two of the trials do not come back."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        swept = [
            ((("perturbation.start", start), ("perturbation.length", length)), self._config(start, length))
            for start in self.starts
            for length in self.lengths
        ]
        return resolve(swept, lambda config: Inputs(data="d", model=(("weights", "w"),), device="cpu"))

    def train(self, trial: Trial, last: int | None = None, **items: Any) -> None:
        """As in `Sweep`, but where a window leaves a mark for good, the loss stays above the baseline's."""
        window = window_of(trial)
        for epoch, state_id in enumerate(trial.lineage.state_ids):
            hurt = 0.0
            if window is not None and epoch >= window[0]:
                hurt = 3.0 if window in _NEVER and epoch >= sum(window) else 2.0 ** (window[0] - epoch)
            loss = 10 / (epoch + 1) + hurt
            values = {"val_loss": loss, "train_loss": loss if epoch else None, "adapter_distance": 0.5}
            self._record(state_id, epoch, "training", values, 2e6 + epoch, 0.5)
            self._record(state_id, epoch, self.items[0]["item"], {"rsa": epoch / 50, "rsa_se": None}, 2e6 + epoch)


def window_of(trial: Trial) -> tuple[int, int] | None:
    swept = dict(trial.swept)
    return None if trial.role == "baseline" else (swept["perturbation.start"], swept["perturbation.length"])


@dataclass(frozen=True)
class Page:
    """The page of a served sweep.

    Attributes:
        url: what `sweeper ui` printed.
        summaries: what is known of each trial, by start and length.
        folder: for downloads.
    """

    url: str
    summaries: dict[tuple[int, int], dict[str, Any]]
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    store = LocalStore(folder / "store")
    sweep = Grid(name="grid", starts=_STARTS, lengths=_LENGTHS, max_epochs=25, horizon=14).finish()
    other = Grid(name="other", starts=(3,), lengths=(1,)).finish()  # in the same experiment: must not be shown
    view = sweep.view()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = dict(os.environ)
        for some in (view, other.view()):
            revision = some.revision
            save_revision(store, revision.spec, revision.source, revision.trials, revision.items)
            sync(some, f"sqlite:///{store.root / 'mlflow.db'}", "lab", store)
        os.environ.clear()
        os.environ.update(before)
    summaries = {window: summary_of(view, t) for t in view.trials.values() if (window := window_of(t)) is not None}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from sweeper.cli import main; main()"
    words = [sys.executable, "-c", code, "ui", "grid", "--store", str(store.root), "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        late = Timer(_START_S, server.terminate)  # then the line below reads to the end and fails
        late.start()
        try:
            assert server.stderr is not None
            lines = []
            for line in server.stderr:
                lines.append(line)
                if line.startswith("http"):
                    break
            late.cancel()
            assert re.match(rf"http://127.0.0.1:{port}/#/experiments/", lines[-1] if lines else ""), "".join(lines)
            yield Page(url=lines[-1].strip(), summaries=summaries, folder=folder)
        finally:
            late.cancel()
            server.send_signal(signal.SIGTERM)
            try:
                assert server.wait(_STOP_S) == 0  # asked to end, it did, and took MLflow's processes with it
            finally:
                with suppress(ProcessLookupError):
                    server.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def page(served: Page) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=switches, timeout=_STEP_MS)
        try:
            page = browser.new_page(viewport={"width": 1900, "height": 1000})
            page.set_default_timeout(_STEP_MS)
            page.goto(served.url)
            yield page
        finally:
            browser.close()


START, LENGTH, LOSS, RECOVERY = (
    "params.`perturbation.start`",
    "params.`perturbation.length`",
    "metrics.`best_val_loss`",
    "tags.`sweeper.recovery`",
)


def rows(page: Any) -> list[dict[str, str]]:
    """Returns the table's rows, top down, by column, as one look: the page draws rows and cells anew while it loads."""
    script = """() => {
        const rows = new Map();
        for (const cell of document.querySelectorAll('.ag-cell')) {
            const index = Number(cell.closest('.ag-row')?.getAttribute('row-index') ?? -1);
            if (index < 0) continue;
            if (!rows.has(index)) rows.set(index, {});
            rows.get(index)[cell.getAttribute('col-id')] = cell.innerText.trim();
        }
        return [...rows].sort((one, two) => one[0] - two[0]).map(pair => pair[1]);
    }"""
    return list(page.evaluate(script))


def window_in(row: dict[str, str]) -> tuple[int, int] | None:
    """Returns a row's start and length; None for the baseline and for a row that is not drawn whole yet."""
    start, length = row.get(START, ""), row.get(LENGTH, "")
    return (int(start), int(length)) if start.isdigit() and length.isdigit() else None


def whole(row: dict[str, str]) -> bool:
    return all(row.get(column) for column in (START, LENGTH, LOSS, RECOVERY))


def wait_for_order(page: Any, order: list[tuple[int, int]]) -> list[dict[str, str]]:
    """Waits until the trials stand in an order, all cells drawn; the baseline may stand anywhere."""
    for _ in range(_STEP_MS // 200):
        found = rows(page)
        if [window_in(row) for row in found if window_in(row)] == order and len(found) == 10 and all(map(whole, found)):
            return found
        page.wait_for_timeout(200)
    raise AssertionError(f"the page shows {rows(page)}, not the order {order} and the baseline")


def test_the_printed_address_shows_the_trials_and_they_sort(served: Page, page: Any) -> None:
    by_loss = sorted(served.summaries, key=lambda window: served.summaries[window]["best_val_loss"])
    assert len({served.summaries[window]["best_val_loss"] for window in by_loss}) == len(by_loss) == 9

    found = wait_for_order(page, by_loss)  # and the baseline; not the parent run and not the other sweep's
    shown = [float(row[LOSS]) for row in found]
    assert shown == sorted(shown)
    assert {window_in(row) for row in found if row[RECOVERY].startswith("NR (> ")} == set(_NEVER)

    page.locator(".ag-header-cell[col-id='metrics.`best_val_loss`']").click()
    wait_for_order(page, by_loss[::-1])


def test_the_trials_that_did_not_recover_are_in_the_parallel_coordinates(served: Page, page: Any) -> None:
    page.locator(".ag-center-cols-container .ag-row").first.wait_for()
    page.goto(served.url.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"))
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="Parallel Coordinates")
    card.locator("canvas.foreground").wait_for()
    card.get_by_test_id("experiment-view-compare-runs-card-menu").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export as CSV").click()
    path = served.folder / "parallel.csv"
    download.value.save_as(path)

    rows = [row for row in csv.DictReader(path.read_text().splitlines()) if row[_AT_LEAST]]
    drawn = {(int(row["perturbation.start"]), int(row["perturbation.length"])): float(row[_AT_LEAST]) for row in rows}
    assert drawn == {window: summary["recovery_loss_epochs_at_least"] for window, summary in served.summaries.items()}
    for window in _NEVER:
        assert served.summaries[window]["recovery_loss_epochs"] is None
        assert drawn[window] == 14

"""What MLflow's page shows of a sweep at first: the trials, the columns and charts that compare them.

The page keeps such a view in a tag of the experiment and offers it under "Views". Its form is that of MLflow 3; a page
that does not know it says so and shows its own columns.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sweeper.tracking import labels

AT_LEAST, BEST, RSA = "recovery/loss_epochs_at_least", "best_val_loss", "rsa_at_best_val_loss"
_COLUMNS = (BEST, RSA, AT_LEAST, "recovered", "epochs_seen_after_window", "max_rsa", "last_epoch")
_CURVES = ("val/loss", "rsa/behavioral")
_RECOVERY = "sweeper.recovery"
_TAG = "mlflow.sharedViewState."
_MAX_AXES = 4
_PAD, _LETTER = 10, 8  # pixels of a column: the page's own width cuts names short
_SECTION = "sweep"
_ROLES_WITH_AXES = ("trial", "control")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedView:
    """A view of one sweep.

    Attributes:
        tag: name of the experiment's tag.
        value: its value.
        fragment: what follows the server's address to show it.
    """

    tag: str
    value: str
    fragment: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What the page can show of one run: `data` of MLflow's REST API as dictionaries."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def saved_view(experiment_id: str, sweep_id: str, runs: Iterable[Shown], created_ms: int) -> SavedView:
    """Returns the view that compares the trials of a sweep, best loss first.

    Args:
        experiment_id: where the runs are.
        sweep_id: value of their tag.
        runs: the sweep's runs.
        created_ms: when the sweep was made, in milliseconds.
    """
    runs = tuple(runs)
    key = f"sweeper-{hashlib.sha256(sweep_id.encode()).hexdigest()[:12]}"
    state = json.dumps(_state(sweep_id, runs), sort_keys=True)
    packed = "deflate;" + base64.b64encode(zlib.compress(state.encode(), 9)).decode()  # a tag holds 5,000 characters
    name = f"sweeper {sweep_id.rpartition('@')[0]}"
    envelope = {"name": name, "createdAt": created_ms, "updatedAt": created_ms, "state": packed}
    query = urlencode({"viewStateShareKey": key, "compareRunsMode": "TABLE"})
    fragment = f"#/experiments/{experiment_id}/runs?{query}"
    return SavedView(tag=_TAG + key, value=json.dumps(envelope), fragment=fragment)


def swept(runs: Iterable[Shown]) -> list[str]:
    """Returns the parameters in which the trials of a sweep differ, those of the perturbation first."""
    trials = [run for run in runs if run.tags.get(labels.ROLE) in _ROLES_WITH_AXES]
    names = sorted({name for run in trials for name in run.params}, key=_perturbation_first)
    return [name for name in names if len({run.params.get(name) for run in trials}) > 1]


def _perturbation_first(name: str) -> tuple[int, str]:
    first = ("perturbation.start", "perturbation.length")
    return (first.index(name) if name in first else 2 if name.startswith("perturbation.") else 3, name)


def _state(sweep_id: str, runs: tuple[Shown, ...]) -> dict[str, Any]:
    axes = swept(runs)[:_MAX_AXES]
    metrics = {name for run in runs for name in run.metrics}
    columns = [_key("params", name) for name in axes]
    if any(_RECOVERY in run.tags for run in runs):
        columns.append(_key("tags", _RECOVERY))
    columns += [_key("metrics", name) for name in _COLUMNS if name in metrics]
    trials_only = f"tags.`{labels.SWEEP_ID}` = '{sweep_id}' and tags.`{labels.ROLE}` != '{labels.SWEEP_ROLE}'"
    return {
        "searchFilter": trials_only,
        "orderByKey": _key("metrics", BEST),
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _PAD + _LETTER * len(column) for column in columns},
        "runsHiddenMode": "SHOW_ALL",  # else the charts show ten runs
        "compareRunSections": [{"uuid": _SECTION, "name": _SECTION, "display": True, "isReordered": True}],
        "isAccordionReordered": True,  # else sections are sorted by name
        "compareRunCharts": list(_charts(axes, metrics)),
    }


def _charts(axes: list[str], metrics: set[str]) -> Iterable[dict[str, Any]]:
    goal = AT_LEAST if AT_LEAST in metrics else BEST
    yield _chart("PARALLEL", "parallel", selectedParams=axes, selectedMetrics=[goal], showAllRuns=True)
    if len(axes) > 1:
        x, y, z = (("PARAM", axes[1]), ("PARAM", axes[0]), ("METRIC", goal))
        yield _chart("CONTOUR", "contour", xaxis=_axis(*x), yaxis=_axis(*y), zaxis=_axis(*z))
    yield _chart("SCATTER", "scatter", xaxis=_axis("METRIC", BEST), yaxis=_axis("METRIC", RSA), runsCountToCompare=500)
    for name in _CURVES:
        if name in metrics:
            yield _chart("LINE", f"line {name}", metricKey=name, selectedMetricKeys=[name], xAxisKey="step")


def _chart(kind: str, uuid: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": uuid, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False, **fields}


def _axis(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "key": name}


def _key(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"

"""What a precision does to results: final RSA, recovery and delta RSA against fp32, beside the spread between orders.

A spec is run in fp32, with features stored as fp16 and as bf16, with bf16 arithmetic, and in fp32 with other batch
orders. Every trial is held against the same trial in fp32 with the spec's own order: `mean` and `max` are of absolute
differences over trials. A recovery that one of the two does not show within its epochs counts in `recovery_only_one`.
A precision is harmless as far as its differences are small beside those between orders.

    python benchmarks/precision.py --json
"""

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from sweeper.launch import Request, launch
from sweeper.progress import progress_for
from sweeper.reporting.load import open_view
from sweeper.reporting.summary import summary_of
from sweeper.store.opening import open_store

Summaries = dict[tuple[tuple[str, Any], ...], dict[str, Any]]
"""Numbers of each trial, by what is swept; of the baseline by nothing."""

MEASURES = {"final_rsa": "final_rsa", "delta_rsa": "delta_rsa_behavioral", "recovery": "recovery_loss_epochs"}
PRECISIONS: dict[str, dict[str, Any]] = {
    "features fp16": {"features": "fp16"},
    "features bf16": {"features": "bf16"},
    "arithmetic bf16": {"precision": "bf16"},
}


def variants(raw: dict[str, Any], orders: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each variant of a spec with its label; the first is what the others are held against."""
    yield "fp32", raw
    for label, numerics in PRECISIONS.items():
        yield label, {**raw, "numerics": {**raw.get("numerics", {}), **numerics}}
    for order in range(2, orders + 2):
        yield f"order {order}", {**raw, "seeds": {"split": 1, "init": 1, "order": order, "noise": 1}}


def run(label: str, raw: dict[str, Any], folder: Path) -> Summaries:
    """Runs a variant and returns its numbers."""
    name = f"precision_{label.replace(' ', '_')}"
    spec = folder / f"{name}.yaml"
    spec.write_text(json.dumps({**raw, "name": name}))
    request = Request(spec=spec, store=str(folder / "store"), backend="local", tracking_uri="off")
    outcome = launch(request, progress_for(quiet=True))
    assert outcome.status == "done", outcome.status
    view = open_view(open_store(str(folder / "store"), create=False), name)
    return {trial.swept: summary_of(view, trial) for trial in view.trials.values()}


def compared(label: str, ours: Summaries, fp32: Summaries) -> dict[str, Any]:
    """Returns how far a variant is from fp32."""
    row: dict[str, Any] = {"variant": label, "trials": len(ours)}
    for name, column in MEASURES.items():
        pairs = [(ours[swept][column], fp32[swept][column]) for swept in fp32]
        gaps = [abs(one - other) for one, other in pairs if one is not None and other is not None]
        row |= {f"{name}_mean": round(statistics.mean(gaps), 5), f"{name}_max": round(max(gaps), 5)} if gaps else {}
        if name == "recovery":
            row["recovery_only_one"] = sum((one is None) != (other is None) for one, other in pairs)
    return row


@click.command(help=__doc__)
@click.option("--spec", type=click.Path(path_type=Path, exists=True), default="experiments/quickstart.yaml")
@click.option("--orders", type=click.IntRange(min=1), default=4, show_default=True, help="Other batch orders.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(spec: Path, orders: int, *, as_json: bool) -> None:
    """Prints a row per variant."""
    raw = YAML(typ="safe", pure=True).load(spec.read_text())
    raw["data"]["manifest"] = str((spec.parent / raw["data"]["manifest"]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        found = {label: run(label, variant, Path(folder)) for label, variant in variants(raw, orders)}
    rows = [compared(label, summaries, found["fp32"]) for label, summaries in found.items() if label != "fp32"]
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "spec": spec.stem, "rows": rows}))
        return
    for row in rows:
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()

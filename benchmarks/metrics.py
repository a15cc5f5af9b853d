"""RDM and RSA of many stimuli against rsatoolbox: the same numbers, and which is faster.

The sides take turns; ratios are medians over repeats of CPU time, above 1 where ours is faster.

    python benchmarks/metrics.py --items 1854 --json
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import rsatoolbox

from sweeper.metrics.rdm import compute_rdm
from sweeper.metrics.rsa import rsa_score

DIMENSIONS = 66


def their_rdm(features: np.ndarray) -> Any:
    """Returns rsatoolbox's correlation RDM."""
    return rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(features), method="correlation")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns CPU seconds and result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def measure(items: int, repeats: int) -> dict[str, Any]:
    """Compares both sides on random features."""
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(items, DIMENSIONS)), rng.normal(size=(items, DIMENSIONS))
    seconds: dict[str, list[float]] = {"rdm_ours": [], "rdm_theirs": [], "rsa_ours": [], "rsa_theirs": []}
    for _ in range(repeats):
        ours_s, ours = timed(lambda: compute_rdm(one))
        theirs_s, theirs = timed(lambda: their_rdm(one))
        np.testing.assert_allclose(ours, theirs.get_matrices()[0], rtol=1e-9, atol=1e-12)
        other, their_other = compute_rdm(two), their_rdm(two)
        rsa_ours_s, score = timed(lambda ours=ours, other=other: rsa_score(ours, other))
        rsa_theirs_s, their_score = timed(
            lambda theirs=theirs, their_other=their_other: rsatoolbox.rdm.compare(theirs, their_other, "spearman")
        )
        np.testing.assert_allclose(score, float(their_score[0, 0]), rtol=1e-9)
        for name, value in zip(seconds, (ours_s, theirs_s, rsa_ours_s, rsa_theirs_s), strict=True):
            seconds[name].append(value)
    row: dict[str, Any] = {"items": items, "repeats": repeats}
    row |= {f"{name}_s": round(statistics.median(times), 4) for name, times in seconds.items()}
    for what in ("rdm", "rsa"):
        pairs = zip(seconds[f"{what}_theirs"], seconds[f"{what}_ours"], strict=True)
        row[f"ratio_{what}"] = round(statistics.median(theirs / ours for theirs, ours in pairs), 2)
    return row


@click.command(help=__doc__)
@click.option("--items", type=click.IntRange(min=3), default=1854, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(items: int, repeats: int, *, as_json: bool) -> None:
    """Prints what was measured."""
    row = measure(items, repeats)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [row]}))
    else:
        click.echo("\n".join(f"{key:<14} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()

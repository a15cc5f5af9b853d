"""Prints what every fault was seen to cost; see docs/reliability.md.

python -m tests.chaos --workers 50 --drivers 20 --nodes 10 --seed 1
"""

import tempfile
import time
from pathlib import Path
from random import Random

import click

from .faults import Tally, kill_drivers, kill_workers, make_yardstick, remove_nodes

HEAD = (
    "| fault | kills | sweeps | not complete | given up after 3 deaths | worst loss, epochs recorded + in progress "
    "| of these, s | workers gone, s | all gone, s | records missing | differences |"
)
SHOWN = 20
FAULTS = {
    "worker": (kill_workers, 10.0),
    "driver": (kill_drivers, 8.0),
    "node": (remove_nodes, 8.0),
}  # with the longest pause after an epoch, in seconds


def row(tally: Tally) -> str:
    """Returns the line of a fault."""
    cells = [tally.fault, f"{tally.kills} of {tally.wanted}", tally.sweeps, len(tally.incomplete), tally.given_up]
    cells += [
        f"{max((loss.epochs for loss in tally.losses), default=0)} + 1",
        f"{max((loss.seconds for loss in tally.losses), default=0.0):.1f}",
    ]
    cells += [f"{max(times):.1f}" if times else "" for times in (tally.workers_gone_s, tally.all_gone_s)]
    cells += [len(tally.missing), len(tally.differences)]
    return f"| {' | '.join(map(str, cells))} |"


@click.command(help=__doc__)
@click.option("--workers", default=50, show_default=True, help="Kills of workers.")
@click.option("--drivers", default=20, show_default=True, help="Kills of drivers.")
@click.option("--nodes", default=10, show_default=True, help="Removed nodes.")
@click.option("--minutes", default=60.0, show_default=True, help="After these, one fault makes way for the next.")
@click.option("--seed", default=1, show_default=True, help="Of the moments and the victims.")
def main(workers: int, drivers: int, nodes: int, minutes: float, seed: int) -> None:
    """Lets chaos loose on a sweep of its own in a temporary folder."""
    counts = {"worker": workers, "driver": drivers, "node": nodes}
    failed = False
    with tempfile.TemporaryDirectory(prefix="sweeper-chaos-") as folder:
        yardstick = make_yardstick(Path(folder), is_long=True)
        click.echo(f"seed {seed}, {len(yardstick.sweep.trials)} trials, {yardstick.num_epochs} epochs")
        click.echo(HEAD)
        click.echo(f"|{'---|' * (HEAD.count('|') - 1)}")
        for name, (strike, pause_s) in FAULTS.items():
            if counts[name]:
                began = time.monotonic()
                tally = Tally(fault=name, wanted=counts[name], until=began + 60 * minutes)
                strike(yardstick, tally, Random(f"{seed} {name}"), pause_s=pause_s)
                click.echo(row(tally))
                click.echo(f"{name}: {time.monotonic() - began:.0f} s", err=True)
                for finding in (tally.incomplete + tally.missing + tally.differences)[:SHOWN]:
                    click.echo(f"{name}: {finding}", err=True)
                failed |= bool(tally.incomplete or tally.missing or tally.differences)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()

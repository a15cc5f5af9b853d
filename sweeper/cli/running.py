"""Verbs that start, end and repeat training: run, stop, cancel, retry."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sweeper.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    draw,
    json_option,
    name_of,
    print_results,
    spec_argument,
    stand_in_option,
    store_option,
    sweep_argument,
    typed,
)
from sweeper.cli.remote import address_option


@click.command()
@spec_argument
@store_option
@stand_in_option
@click.option("--backend", type=click.Choice(["ray", "local"]), default="ray", show_default=True)
@address_option(is_used=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of frozen features.")
@click.option("--tracking-uri", help="MLflow tracking URI; default: an SQLite file of the store. `off`: no tracking.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Also draw the figures into DIR.")
@click.option("--wait", is_flag=True, help="Wait while another run uses the store, instead of giving up.")
@click.option(
    "--max-failed",
    type=click.IntRange(min=0),
    metavar="N",
    help="End after the epochs in progress once more than N trials have failed in this run, baselines included.",
)
@json_option
def run(
    spec: Path,
    store: str,
    stand_in: bool,
    backend: str,
    address: str | None,
    cache: Path | None,
    tracking_uri: str | None,
    figures: Path | None,
    wait: bool,
    max_failed: int | None,
    as_json: bool,
) -> None:
    """Train what the store does not hold yet; run again to resume or extend."""
    from dataclasses import replace

    from sweeper.progress import progress_for

    progress = progress_for(quiet=as_json)
    progress.phase("starting")
    from sweeper.launch import Request, comparison, launch

    request = Request(
        spec=spec,
        store=store,
        stand_in=stand_in,
        backend=backend,
        address=address,
        cache=cache,
        tracking_uri=tracking_uri,
        wait=wait,
        max_failed=max_failed,
        typed=typed(),
    )
    try:
        outcome = launch(request, progress)
    finally:
        progress.stop()
    if outcome.status in ("interrupted", "gave up") and not as_json:
        from sweeper.reporting.points import asked_text
        from sweeper.reporting.status import status_text

        click.echo(status_text(outcome.view.standing, asked=asked_text(outcome.view)))
    else:
        print_results(outcome.view, "envelope" if as_json else "text")
    if figures is not None:
        draw(outcome.view, figures, store)
    if outcome.status == "interrupted":
        click.echo(f"interrupted; go on with: {request.command()}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if outcome.status == "gave up":
        more = f"the rest goes on with: {replace(request, max_failed=None).command()}"
        click.echo(f"ended early: more than {max_failed} trials failed (--max-failed); {more}", err=True)
        sys.exit(EXIT_FAILED)
    if not as_json and (comparing := comparison(request, outcome)) is not None:
        click.echo(comparing)
    if outcome.status == "failed":
        again = shlex.join(["sweeper", "retry", *(typed() or [outcome.view.revision.spec.name]), "--store", store])
        click.echo(f"what failed is a result, and is not repeated; {again} takes it back", err=True)
        sys.exit(EXIT_FAILED)


@click.command()
@sweep_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@json_option
def stop(sweep: str, store: str, stand_in: bool, as_json: bool) -> None:
    """End a running sweep after the epochs in progress; run goes on from there."""
    _ask(sweep, store, stand_in, "stop", as_json)


@click.command()
@sweep_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@json_option
def cancel(sweep: str, store: str, stand_in: bool, as_json: bool) -> None:
    """End a running sweep now; epochs in progress are lost, finished ones are kept."""
    _ask(sweep, store, stand_in, "cancel", as_json)


def _ask(sweep: str, store: str, stand_in: bool, wish: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from sweeper.store.lease import ask
    from sweeper.store.opening import open_store

    holder = ask(open_store(store, create=False), name_of(sweep, stand_in), wish)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [{"wish": wish, **asdict(holder)}]}))
    else:
        click.echo(f"asked {holder} to {wish}")


@click.command()
@sweep_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@click.option("--failed", is_flag=True, help="All trials that failed; the default.")
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Only this trial; may be given again.")
@click.option(
    "--gpu",
    type=click.FloatRange(0, 64),
    metavar="SHARE",
    help="Least share of a GPU that each trial gets from now on, after out-of-memory; 0: what the spec says.",
)
@json_option
def retry(
    sweep: str, store: str, stand_in: bool, failed: bool, trials: tuple[str, ...], gpu: float | None, as_json: bool
) -> None:
    """Take failures back, so that the next run trains these trials again.

    A trial that died or ran out of memory is tried again by every run; `--gpu` gives it more room.
    """
    from dataclasses import asdict

    from sweeper.retry import retry_failed
    from sweeper.wording import counted

    if failed and trials:
        raise click.UsageError("--failed means all trials; leave it out beside --trial")
    taken = retry_failed(name_of(sweep, stand_in), store, trials, gpu)
    again = shlex.join(["sweeper", "run", *(typed() or [sweep]), "--store", store])
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [asdict(failure) for failure in taken]}))
        return
    for failure in taken:
        click.echo(f"{failure.place} (state {failure.state_id[:12]}): {failure.reason}")
    if gpu is not None:
        says = f"gets at least {gpu:g} GPU" if gpu else "gets what the spec says"
        click.echo(f"each trial {says}; {again} goes on")
    if not taken:
        click.echo("no result is a failure, so nothing is taken back" if gpu is not None else "nothing has failed")
        return
    click.echo(f"{counted(len(taken), 'failure')} taken back; {again} trains again")

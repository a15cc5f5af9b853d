"""Verbs that show what a store holds: status, results."""

import json
from pathlib import Path

import click

from sweeper.cli.common import (
    draw,
    json_option,
    name_of,
    open_sweep,
    print_results,
    stand_in_option,
    store_option,
    sweep_argument,
)


@click.command()
@sweep_argument
@store_option
@stand_in_option
@click.option("--watch", "watched", is_flag=True, help="Go on showing it until it is done.")
@json_option
def status(sweep: str, store: str, stand_in: bool, watched: bool, as_json: bool) -> None:
    """Show how many trials are done, open and failed."""
    from sweeper.reporting.status import status_rows, status_text

    if watched and not as_json:
        _watch(sweep, store, stand_in)
        return
    view = open_sweep(sweep, store, stand_in)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": status_rows(view)}, allow_nan=False))
    else:
        click.echo(status_text(view))


@click.command()
@sweep_argument
@store_option
@stand_in_option
@click.option("--curves", is_flag=True, help="One row per trial and epoch.")
@click.option("--dimensions", is_flag=True, help="One row per trial, epoch and dimension.")
@click.option("--tolerances", is_flag=True, help="Recovery by tolerance and comparator.")
@click.option("--folds", is_flag=True, help="Out-of-fold evaluation of a sweep over folds.")
@click.option("--format", "format_", type=click.Choice(["text", "csv", "json", "parquet"]), default="text")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE instead of the terminal.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Also draw the figures into DIR.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a report page to FILE.")
@json_option
def results(
    sweep: str,
    store: str,
    stand_in: bool,
    curves: bool,
    dimensions: bool,
    tolerances: bool,
    folds: bool,
    format_: str,
    out: Path | None,
    figures: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show one row per trial: best values, recovery by every comparator, distance from the baseline."""
    view = open_sweep(sweep, store, stand_in)
    chosen = [
        name
        for name, on in (("curves", curves), ("dimensions", dimensions), ("tolerances", tolerances), ("folds", folds))
        if on
    ]
    if len(chosen) > 1:
        raise click.UsageError(f"choose one of --{', --'.join(chosen)}")
    print_results(view, "json" if as_json else format_, chosen[0] if chosen else "trials", out, store)
    if figures is not None:
        draw(view, figures)
    if html is not None:
        from sweeper.reporting.html import write_report
        from sweeper.store.opening import open_store

        write_report(view, html, open_store(store, create=False))
        click.echo(f"wrote {html}", err=True)


def _watch(sweep: str, store: str, stand_in: bool) -> None:
    from rich.console import Console

    from sweeper.reporting.load import open_view
    from sweeper.reporting.watch import watch
    from sweeper.store.lease import driven_sweep
    from sweeper.store.opening import open_store

    name, opened = name_of(sweep, stand_in), open_store(store, create=False)
    watch(lambda: (open_view(opened, name), driven_sweep(opened) == name), Console())

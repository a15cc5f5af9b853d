"""Verbs that show what a store holds: status, logs, results, verify."""

import json
import sys
from pathlib import Path

import click

from sweeper.cli.common import (
    EXIT_FAILED,
    draw,
    json_option,
    leaving_quietly,
    name_of,
    open_sweep,
    print_results,
    stand_in_option,
    store_option,
    sweep_argument,
    sweep_or_all_argument,
    tell_if_edited,
)
from sweeper.cli.remote import address_option


@click.command()
@sweep_or_all_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@click.option("--watch", "watched", is_flag=True, help="Go on showing it until it is done.")
@json_option
def status(sweep: str | None, store: str, stand_in: bool, watched: bool, as_json: bool) -> None:
    """Show how many trials are done, open and failed, and which worker does what; without a SWEEP, all sweeps."""
    from sweeper.reporting.look import look_at
    from sweeper.reporting.status import status_rows, status_text, sweep_rows, sweeps_text
    from sweeper.store.opening import open_store
    from sweeper.store.pulse import read_pulse

    if sweep is None:
        if watched:
            raise click.UsageError("--watch shows one SWEEP")
        opened = open_store(store, create=False)
        rows = sweep_rows(opened)
        click.echo(json.dumps({"schema_version": 1, "rows": rows}) if as_json else sweeps_text(rows, opened.address))
        return
    if watched and not as_json:
        _watch(sweep, store, stand_in)
        return
    name, opened = name_of(sweep, stand_in), open_store(store, create=False)
    look = look_at(opened, name)
    tell_if_edited(sweep, stand_in, look.spec)
    pulse = read_pulse(opened, name)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": status_rows(look.standing, pulse)}, allow_nan=False))
    else:
        click.echo(status_text(look.standing, pulse, look.asked))


@click.command()
@sweep_or_all_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@click.option("--remake", is_flag=True, help="Let the next run also make again what is missing, damaged or not.")
@click.option("--new-id", is_flag=True, help="First give a store that has lost its store.json another one.")
@json_option
def verify(sweep: str | None, store: str, stand_in: bool, remake: bool, new_id: bool, as_json: bool) -> None:
    """Read everything that a sweep holds; without a SWEEP, that all of them hold.

    What is damaged is named and moved aside, and the next run makes it again. Exits with 1 when anything was found.
    """
    from dataclasses import asdict

    from sweeper.notices import heard_by
    from sweeper.progress import progress_for
    from sweeper.reporting.soundness import examination_text, examine
    from sweeper.store.lost import lost_sweeps
    from sweeper.store.opening import open_store
    from sweeper.store.revisions import sweep_names

    opened, progress = open_store(store, create=False, renew=new_id), progress_for(quiet=as_json)
    names = [*sweep_names(opened), *lost_sweeps(opened)] if sweep is None else [name_of(sweep, stand_in)]
    try:
        with heard_by(lambda text: None):  # told below, each once
            found = [examine(opened, name, remake=remake, on_phase=progress.phase) for name in names]
    finally:
        progress.stop()
    if as_json:
        rows = [{"sweep": each.sweep, **asdict(finding)} for each in found for finding in each.findings]
        read = {each.sweep: each.num_objects for each in found}
        click.echo(json.dumps({"schema_version": 1, "rows": rows, "objects_read": read}))
    else:
        click.echo("\n".join(examination_text(each, store) for each in found) or "no sweep yet")
    if any(each.findings for each in found):
        sys.exit(EXIT_FAILED)


@click.command()
@sweep_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the run is over.")
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Only what is about this trial; may be repeated.")
@click.option("--run", metavar="NAME", help="An older run; default: the newest.")
@click.option("--runs", is_flag=True, help="List the runs that left logs, the newest last.")
@json_option
def logs(
    sweep: str,
    store: str,
    stand_in: bool,
    follow: bool,
    trials: tuple[str, ...],
    run: str | None,
    runs: bool,
    as_json: bool,
) -> None:
    """Show what the driver and the workers of a run said: warnings, errors, who trained what."""
    from dataclasses import asdict

    from sweeper.reporting.said import Wanted, line_text, log_lines, runs_with_logs
    from sweeper.store.opening import open_store

    name, opened = name_of(sweep, stand_in), open_store(store, create=False)
    if runs:
        names = runs_with_logs(opened, name)
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "rows": [{"run": found} for found in names]}))
        else:
            click.echo("\n".join(names) if names else f"no run of {name} left a log", err=not names)
        return
    wanted = Wanted(sweep=name, run=run, trials=trials, follow=follow)
    with leaving_quietly():
        if as_json and not follow:
            rows = [asdict(line) for lines in log_lines(opened, wanted) for line in lines]
            click.echo(json.dumps({"schema_version": 1, "rows": rows}))
            return
        number = 0
        for lines in log_lines(opened, wanted):
            for line in lines:
                click.echo(json.dumps(asdict(line)) if as_json else line_text(line))
            number += len(lines)
        if not number:
            click.echo(f"nothing was said of it in a log of {name}", err=True)
        if run is None and not as_json and (others := len(runs_with_logs(opened, name)) - 1) > 0:
            click.echo(f"(the newest run; --runs lists it and {others} before it, --run shows one of them)", err=True)


@click.command()
@sweep_argument
@store_option
@stand_in_option
@address_option(is_used=False)
@click.option("--curves", is_flag=True, help="One row per trial and epoch.")
@click.option("--dimensions", is_flag=True, help="One row per trial, epoch and dimension.")
@click.option("--tolerances", is_flag=True, help="Recovery by tolerance and comparator.")
@click.option("--folds", is_flag=True, help="Out-of-fold evaluation of a sweep over folds.")
@click.option("--points", is_flag=True, help="One row per point of a search.")
@click.option("--courses", is_flag=True, help="RSA over time of every trial at its best validation loss.")
@click.option("--individuals", is_flag=True, help="Individual differences of a sweep over subjects, with controls.")
@click.option("--subjects", nargs=2, metavar="A B", help="How two subjects' models differ over time, and by what.")
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
    points: bool,
    courses: bool,
    individuals: bool,
    subjects: tuple[str, str] | None,
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
        for name, on in (
            ("curves", curves),
            ("dimensions", dimensions),
            ("tolerances", tolerances),
            ("folds", folds),
            ("points", points),
            ("courses", courses),
            ("individuals", individuals),
            ("subjects", subjects is not None),
        )
        if on
    ]
    if len(chosen) > 1:
        raise click.UsageError(f"choose one of --{', --'.join(chosen)}")
    print_results(view, "envelope" if as_json else format_, chosen[0] if chosen else "trials", out, store, subjects)
    if figures is not None:
        draw(view, figures, store, subjects)
    if html is not None:
        from sweeper.cli.common import search_figures
        from sweeper.reporting.html import write_report
        from sweeper.store.opening import open_store

        write_report(view, html, open_store(store, create=False), search_figures(view))
        click.echo(f"wrote {html}", err=True)


def _watch(sweep: str, store: str, stand_in: bool) -> None:
    from rich.console import Console

    from sweeper.reporting.look import look_at
    from sweeper.reporting.watch import Glance, watch
    from sweeper.store.lease import driven_sweep
    from sweeper.store.opening import open_store
    from sweeper.store.pulse import read_pulse

    name, opened = name_of(sweep, stand_in), open_store(store, create=False)

    def look() -> Glance:
        is_driven = driven_sweep(opened) == name
        return Glance(look=look_at(opened, name), pulse=read_pulse(opened, name), is_driven=is_driven)

    with leaving_quietly():
        watch(look, Console())

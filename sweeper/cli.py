"""The command line: thin verbs. Everything heavier than click is imported inside the verb that needs it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sweeper.completion import SHELLS, complete_spec, complete_sweep, script

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class _Group(click.Group):
    """Prints a user's mistake as it is, without a traceback, and exits with its code."""

    def invoke(self, ctx: click.Context) -> Any:
        from sweeper_models.errors import ModelError

        from sweeper.errors import SweeperError

        try:
            return super().invoke(ctx)
        except SweeperError as error:
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("ended at once; finished epochs are kept, and the same command goes on", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except ModelError as error:  # weights that do not fit the network
            click.echo(f"error: {str(error)[:1000]}", err=True)
            ctx.exit(EXIT_USAGE)
        except OSError as error:  # a file that the user named, or the terminal, cannot be written or read
            if isinstance(error, BrokenPipeError):
                raise
            click.echo(f"error: {error.filename or 'output'}: {error.strerror or error}.", err=True)
            ctx.exit(EXIT_USAGE)


def _stand_in(verb: F) -> F:
    help_text = "Run on the self-made set with the tiny CLIP, under another sweep name."
    return click.option("--stand-in", is_flag=True, help=help_text)(verb)


def _store(verb: F) -> F:
    return click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("sweeper-store"),
        envvar="SWEEPER_STORE",
        show_default=True,
        help="Folder of results.",
    )(verb)


def _as_json(verb: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)


def _spec_argument(verb: F) -> F:
    spec_path = click.Path(dir_okay=False, path_type=Path)
    return click.argument("spec", type=spec_path, shell_complete=complete_spec)(verb)


def _sweep_argument(verb: F) -> F:
    return click.argument("sweep", metavar="SWEEP", shell_complete=complete_sweep)(verb)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweeper")
def main() -> None:
    """Sweeps of CLIP-HBA trainings: perturbation windows, loss weights, adapters, subjects.

    A SPEC is a YAML file; a SWEEP is a spec's path or its name in the store.
    """


@main.command()
@_spec_argument
@_store
@_stand_in
@click.option("--backend", type=click.Choice(["ray", "local"]), default="ray", show_default=True)
@click.option("--address", help="Ray address; default: RAY_ADDRESS, else Ray on this machine.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of frozen features.")
@click.option("--tracking-uri", help="MLflow tracking URI; default: an SQLite file in the store. `off`: no tracking.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Also draw the figures into DIR.")
@click.option("--wait", is_flag=True, help="Wait while another run uses the store, instead of giving up.")
@_as_json
def run(
    spec: Path,
    store: Path,
    stand_in: bool,
    backend: str,
    address: str | None,
    cache: Path | None,
    tracking_uri: str | None,
    figures: Path | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Train what the store does not hold yet; run again to resume or extend."""
    from sweeper.launch import Request, launch

    request = Request(
        spec=spec,
        store=store,
        stand_in=stand_in,
        backend=backend,
        address=address,
        cache=cache,
        tracking_uri=tracking_uri,
        quiet=as_json,
        wait=wait,
    )
    outcome = launch(request)
    if outcome.status == "interrupted" and not as_json:
        from sweeper.reporting.status import status_text

        click.echo(status_text(outcome.view))
    else:
        _print_results(outcome.view, "json" if as_json else "text")
    if figures is not None:
        _draw(outcome.view, figures)
    if outcome.status == "interrupted":
        click.echo(f"interrupted; go on with: {request.command()}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if not as_json and tracking_uri != "off":
        click.echo(f"compare in MLflow: {request.ui_command(outcome.view.revision.spec.name)}")
    if outcome.status == "failed":
        retry = f"sweeper retry {outcome.view.revision.spec.name} --store {store}"
        click.echo(f"what failed is a result, and is not repeated; {retry} takes it back", err=True)
        sys.exit(EXIT_FAILED)


@main.command()
@_spec_argument
@_store
@_stand_in
@_as_json
def plan(spec: Path, store: Path, stand_in: bool, as_json: bool) -> None:
    """Say what would be trained, shared and reused, and what it costs. Trains nothing."""
    from sweeper.launch import make_plan

    planned = make_plan(spec, store, stand_in=stand_in)
    click.echo(json.dumps(planned.to_json()) if as_json else planned.to_text())


@main.command()
@_spec_argument
@_store
@_stand_in
@_as_json
def validate(spec: Path, store: Path, stand_in: bool, as_json: bool) -> None:
    """Check a spec; every problem at once, each with its place."""
    from dataclasses import asdict

    from sweeper.errors import SpecError
    from sweeper.spec.axes import expand
    from sweeper.specs import find_spec

    try:
        loaded = find_spec(spec, store, stand_in=stand_in).spec
    except SpecError as error:
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "rows": [], "problems": [asdict(p) for p in error.problems]}))
        raise
    trials = len(expand(loaded))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [{"name": loaded.name, "trials": trials}]}))
    else:
        click.echo(f"{spec}: valid, {trials} trials")


@main.command()
@_store
@click.option("--yes", is_flag=True, help="Remove it; without, it is only shown.")
@_as_json
def gc(store: Path, yes: bool, as_json: bool) -> None:
    """Show what no sweep needs: damaged objects, leftovers, results of no revision."""
    from sweeper.store.garbage import find_garbage, remove
    from sweeper.store.lease import held
    from sweeper.store.objects import LocalStore

    opened = LocalStore(store.absolute(), create=False)
    with held(opened, "gc"):
        found = find_garbage(opened)
        for each in found if yes else ():
            remove(each)
    if as_json:
        rows = [{"sort": each.sort, "files": len(each.files), "bytes": each.size, "removed": yes} for each in found]
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))
        return
    for each in found:
        click.echo(f"{each.sort:<30} {len(each.files):>8} files {each.size / 1e6:>10.1f} MB")
    click.echo("removed" if yes else "nothing was removed; --yes removes it")


@main.command()
@_sweep_argument
@_store
@_stand_in
def stop(sweep: str, store: Path, stand_in: bool) -> None:
    """End a running sweep after the epochs in progress; run goes on from there."""
    _ask(sweep, store, stand_in, "stop")


@main.command()
@_sweep_argument
@_store
@_stand_in
def cancel(sweep: str, store: Path, stand_in: bool) -> None:
    """End a running sweep now; epochs in progress are lost, finished ones are kept."""
    _ask(sweep, store, stand_in, "cancel")


def _ask(sweep: str, store: Path, stand_in: bool, wish: Any) -> None:
    from sweeper.store.lease import ask
    from sweeper.store.objects import LocalStore

    holder = ask(LocalStore(store.absolute(), create=False), _name(sweep, stand_in), wish)
    click.echo(f"asked {holder} to {wish}")


@main.command()
@_sweep_argument
@_store
@_stand_in
@click.option("--failed", is_flag=True, help="All trials that failed; the default.")
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Only this trial; may be given again.")
@_as_json
def retry(sweep: str, store: Path, stand_in: bool, failed: bool, trials: tuple[str, ...], as_json: bool) -> None:
    """Take failures back, so that the next run trains these trials again."""
    from dataclasses import asdict

    from sweeper.launch import retry_failed

    if failed and trials:
        raise click.UsageError("--failed means all trials; leave it out beside --trial")
    taken = retry_failed(_name(sweep, stand_in), store, trials)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [asdict(failure) for failure in taken]}))
        return
    for failure in taken:
        click.echo(f"{failure.place} (state {failure.state_id[:12]}): {failure.reason}")
    if not taken:
        click.echo("nothing has failed")
        return
    click.echo(f"{len(taken)} failures taken back; sweeper run {sweep} --store {store} trains again")


@main.command()
@_sweep_argument
@_store
@_stand_in
@click.option("--watch", "watched", is_flag=True, help="Go on showing it until it is done.")
@_as_json
def status(sweep: str, store: Path, stand_in: bool, watched: bool, as_json: bool) -> None:
    """Show how many trials are done, open and failed."""
    from sweeper.reporting.status import status_rows, status_text

    if watched and not as_json:
        _watch(sweep, store, stand_in)
        return
    view = _open(sweep, store, stand_in)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": status_rows(view)}, allow_nan=False))
    else:
        click.echo(status_text(view))


@main.command()
@_sweep_argument
@_store
@_stand_in
@click.option("--curves", is_flag=True, help="One row per trial and epoch.")
@click.option("--dimensions", is_flag=True, help="One row per trial, epoch and dimension.")
@click.option("--tolerances", is_flag=True, help="Recovery by tolerance and comparator.")
@click.option("--folds", is_flag=True, help="Out-of-fold evaluation of a sweep over folds.")
@click.option("--format", "format_", type=click.Choice(["text", "csv", "json", "parquet"]), default="text")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE instead of the terminal.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Also draw the figures into DIR.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a report page to FILE.")
@_as_json
def results(
    sweep: str,
    store: Path,
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
    view = _open(sweep, store, stand_in)
    chosen = [
        name
        for name, on in (("curves", curves), ("dimensions", dimensions), ("tolerances", tolerances), ("folds", folds))
        if on
    ]
    if len(chosen) > 1:
        raise click.UsageError(f"choose one of --{', --'.join(chosen)}")
    _print_results(view, "json" if as_json else format_, chosen[0] if chosen else "trials", out, store)
    if figures is not None:
        _draw(view, figures)
    if html is not None:
        from sweeper.reporting.html import write_report
        from sweeper.store.objects import LocalStore

        write_report(view, html, LocalStore(store, create=False))
        click.echo(f"wrote {html}", err=True)


@main.command()
@_store
@_stand_in
@click.argument("sweep", required=False, shell_complete=complete_sweep)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--tracking-uri", help="MLflow tracking URI; default: the SQLite file in the store.")
def ui(store: Path, stand_in: bool, sweep: str | None, port: int, tracking_uri: str | None) -> None:
    """Serve the MLflow page on 127.0.0.1; with a SWEEP, say where its trials are compared."""
    from sweeper.tracking.ui import serve

    sys.exit(serve(store, None if sweep is None else _name(sweep, stand_in), port=port, tracking_uri=tracking_uri))


@main.command()
@_sweep_argument
@_store
@_stand_in
@click.option("--tracking-uri", help="MLflow tracking URI; default: the spec's, else the SQLite file in the store.")
def sync(sweep: str, store: Path, stand_in: bool, tracking_uri: str | None) -> None:
    """Bring an MLflow server up to date with the store; again, it changes nothing. The sweep may be running."""
    from sweeper.launch import sync_sweep

    click.echo(f"{sweep} is up to date at {sync_sweep(_name(sweep, stand_in), store, tracking_uri)}")


@main.command()
@_sweep_argument
@_store
@_stand_in
@click.option("--trial", required=True, metavar="ID", help="Trial: the beginning of its trial_id in `results`.")
@click.option("--epoch", type=click.IntRange(min=0), help="Epoch; 0 is the untrained model.")
@click.option(
    "--state",
    type=click.Choice(["best", "last", "final"]),
    help="Instead of --epoch: best, the lowest validation loss (default); last, the newest; final, the trial's end.",
)
@click.option("--what", type=click.Choice(["adapter", "merged", "embeddings"]), default="adapter", show_default=True)
@click.option("--format", "format_", type=click.Choice(["npz", "parquet"]), help="Of embeddings; default: npz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write to.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@_as_json
def export(sweep: str, store: Path, stand_in: bool, as_json: bool, **wanted: Any) -> None:
    """Write a trial's adapter for plain peft, its merged weights for open_clip, or its held-out outputs."""
    from sweeper.export.folder import Wanted, export_state

    row = export_state(_name(sweep, stand_in), Wanted(store=store, **wanted))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [row]}, allow_nan=False))
        return
    click.echo(f"{row['what']} of trial {row['trial_id'][:12]} ({row['trial']}), epoch {row['epoch']}")
    if "largest_difference" in row:
        click.echo(f"read back by load.py, its outputs differ by {row['largest_difference']:.1e} of the largest")
    click.echo("\n".join(f"wrote {Path(row['out']) / name}" for name in row["files"]))


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the lines that teach a shell to complete: eval "$(sweeper completion bash)"."""
    click.echo(script(shell))


@main.command()
def schema() -> None:
    """Print the JSON Schema of a spec file; editors complete and check with it."""
    from sweeper.spec.file_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option(
    "--model",
    "spec",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    shell_complete=complete_spec,
    metavar="SPEC",
    help="Spec whose network and data are examined.",
)
@_store
@_stand_in
@_as_json
def doctor(spec: Path, store: Path, stand_in: bool, as_json: bool) -> None:
    """Prove that network and data are the published ones; every deviation with its likely cause."""
    from sweeper.doctor import examine, report_of
    from sweeper.errors import SweeperError
    from sweeper.specs import find_spec

    try:
        report = examine(find_spec(spec, store, stand_in=stand_in).spec)
    except SweeperError as error:
        if as_json:
            click.echo(json.dumps(report_of(error).to_json(), allow_nan=False))
        raise
    click.echo(json.dumps(report.to_json(), allow_nan=False) if as_json else report.to_text())
    sys.exit(EXIT_FAILED if report.has_failed else 0)


@main.group()
def data() -> None:
    """Look at data manifests."""


@data.command()
@click.argument("manifest", type=click.Path(dir_okay=False, path_type=Path))
@_as_json
def verify(manifest: Path, as_json: bool) -> None:
    """Check that images decode, rows match, RDMs are sound, and row orders fit."""
    from dataclasses import asdict

    from sweeper.data.manifest import load_manifest
    from sweeper.data.verify import verify_manifest

    findings = verify_manifest(load_manifest(manifest))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            click.echo(f"{finding.level:<8} {finding.check}: {finding.message}  [{finding.where}]")
            if finding.remedy:
                click.echo(f"{'':<8} {finding.remedy}")
    sys.exit(EXIT_USAGE if any(finding.level == "error" for finding in findings) else 0)


def _open(sweep: str, store: Path, stand_in: bool) -> Any:
    """Returns the view of a sweep named by its spec's path or by its name in the store."""
    from sweeper.reporting.load import open_view
    from sweeper.store.objects import LocalStore

    spec = _spec_in(sweep, stand_in)
    view = open_view(LocalStore(store, create=False), _name(sweep, stand_in))
    places = {"resources", "tracking"}
    if spec is not None and spec.model_dump(exclude=places) != view.revision.spec.model_dump(exclude=places):
        click.echo(f"{sweep} was edited since it was run; `sweeper run {sweep}` does what it asks for now", err=True)
    return view


def _watch(sweep: str, store: Path, stand_in: bool) -> None:
    from rich.console import Console

    from sweeper.reporting.load import open_view
    from sweeper.reporting.watch import watch
    from sweeper.store.lease import driven_sweep
    from sweeper.store.objects import LocalStore

    name, opened = _name(sweep, stand_in), LocalStore(store.absolute(), create=False)
    watch(lambda: (open_view(opened, name), driven_sweep(opened) == name), Console())


def _name(sweep: str, stand_in: bool) -> str:
    from sweeper.reporting.load import sweep_name

    spec = _spec_in(sweep, stand_in)
    return sweep_name(sweep, stand_in=stand_in) if spec is None else str(spec.name)


def _spec_in(sweep: str, stand_in: bool) -> Any:
    """Returns the spec in a file, None for the name of a sweep."""
    from sweeper.spec.load import load_spec

    is_file = Path(sweep).suffix in (".yaml", ".yml") or Path(sweep).is_file()
    return load_spec(sweep, stand_in=stand_in) if is_file else None


def _print_results(
    view: Any, format_: Any, what: Any = "trials", out: Path | None = None, store: Path | None = None
) -> None:
    from sweeper.reporting.output import print_table

    print_table(view, what=what, format_=format_, out=out, store=store)


def _draw(view: Any, folder: Path) -> None:
    from sweeper.reporting.figures import save_figures

    for path in save_figures(view, folder):
        click.echo(f"drew {path}", err=True)


if __name__ == "__main__":
    main()

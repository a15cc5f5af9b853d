"""Verbs that look before anything runs: plan, validate, schema, doctor, data verify."""

import json
import sys
from pathlib import Path

import click

from sweeper.cli.common import EXIT_FAILED, EXIT_USAGE, json_option, spec_argument, stand_in_option, store_option
from sweeper.cli.remote import address_option
from sweeper.completion import complete_spec


@click.command()
@spec_argument
@store_option
@stand_in_option
@address_option(is_used=True)
@json_option
def plan(spec: Path, store: str, stand_in: bool, address: str | None, as_json: bool) -> None:
    """Say what would be trained, shared and reused, and what it costs. Trains nothing."""
    import gc

    from sweeper.preview import make_plan

    gc.disable()  # what a plan makes lives to its end, and looking for garbage in it takes a fifth of the time
    planned = make_plan(spec, store, stand_in=stand_in, address=address)
    click.echo(json.dumps(planned.to_json()) if as_json else planned.to_text())


@click.command()
@spec_argument
@store_option
@stand_in_option
@json_option
def validate(spec: Path, store: str, stand_in: bool, as_json: bool) -> None:
    """Check a spec; every problem of its text at once, each with its place. `plan` looks at data and weights, too."""
    from dataclasses import asdict

    from sweeper.errors import SpecError
    from sweeper.spec.axes import expand
    from sweeper.spec.schema import names_several
    from sweeper.specs import find_spec

    try:
        named = find_spec(spec, store, stand_in=stand_in)
        loaded = named.spec
        if loaded.search is not None:
            from sweeper.search.study import check_search

            with named.located():
                check_search(loaded.search)
    except SpecError as error:
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "rows": [], "problems": [asdict(p) for p in error.problems]}))
        raise
    trials = () if loaded.search is not None else expand(loaded)
    per_subject = sum(names_several(trial.config.subject) for trial in trials)
    counted = (
        {"search": True} if loaded.search is not None else {"trials": len(trials), "for_each_subject": per_subject}
    )
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [{"name": loaded.name, **counted}]}))
        return
    part = "" if per_subject == len(trials) else f", {per_subject} of them"
    several = f"{part} for each subject that `all` or a range means" if per_subject else ""
    told = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}{several}"
    click.echo(f"{spec}: valid, {'a search' if loaded.search is not None else told}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of a spec file; editors complete and check with it."""
    from sweeper.spec.file_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@click.option(
    "--model",
    "spec",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    shell_complete=complete_spec,
    metavar="SPEC",
    help="Spec whose network and data are examined.",
)
@store_option
@stand_in_option
@json_option
def doctor(spec: Path, store: str, stand_in: bool, as_json: bool) -> None:
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


@click.group()
def data() -> None:
    """Look at data manifests."""


@data.command()
@click.argument("manifest", type=click.Path(dir_okay=False, path_type=Path))
@json_option
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

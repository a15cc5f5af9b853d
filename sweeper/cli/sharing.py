"""Verbs that carry results elsewhere or clear them up: ui, sync, export, gc, completion."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from sweeper.cli.common import json_option, name_of, stand_in_option, store_option, sweep_argument
from sweeper.cli.remote import address_option
from sweeper.completion import SHELLS, complete_sweep, script


@click.command()
@store_option
@stand_in_option
@click.argument("sweep", required=False, shell_complete=complete_sweep)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--tracking-uri", help="MLflow tracking URI; default: the SQLite file of the store.")
def ui(store: str, stand_in: bool, sweep: str | None, port: int, tracking_uri: str | None) -> None:
    """Serve the MLflow page on 127.0.0.1; with a SWEEP, say where its trials are compared."""
    from sweeper.reporting.load import revision_of
    from sweeper.store.opening import open_store
    from sweeper.tracking.ui import serve

    name = None if sweep is None else name_of(sweep, stand_in)
    if name is not None and tracking_uri is None and "MLFLOW_TRACKING_URI" not in os.environ:
        revision_of(open_store(store, create=False), name)  # before a server is started in vain
    sys.exit(serve(store, name, port=port, tracking_uri=tracking_uri))


@click.command()
@store_option
@stand_in_option
@address_option(is_used=False)
@click.argument("sweep", required=False, shell_complete=complete_sweep)
@click.option("--tracking-uri", help="MLflow tracking URI; default: the spec's, else the SQLite file of the store.")
def sync(store: str, stand_in: bool, sweep: str | None, tracking_uri: str | None) -> None:
    """Bring an MLflow server up to date with a sweep, or with all of the store; again, it changes nothing.

    The sweep may be running.
    """
    from sweeper.store.opening import open_store
    from sweeper.store.revisions import sweep_names
    from sweeper.tracking.sync import sync_sweep

    known = sweep_names(open_store(store, create=False))
    for name in known if sweep is None else [name_of(sweep, stand_in)]:
        click.echo(f"{name} is up to date at {sync_sweep(name, store, tracking_uri)}")
    if sweep is None and not known:
        click.echo("no sweep yet")


@click.command()
@sweep_argument
@store_option
@stand_in_option
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
@json_option
def export(sweep: str, store: str, stand_in: bool, as_json: bool, **wanted: Any) -> None:
    """Write a trial's adapter for plain peft, its merged weights for open_clip, or its held-out outputs."""
    from sweeper.export.folder import Wanted, export_state

    row = export_state(name_of(sweep, stand_in), Wanted(store=store, **wanted))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [row]}, allow_nan=False))
        return
    click.echo(f"{row['what']} of trial {row['trial_id'][:12]} ({row['trial']}), epoch {row['epoch']}")
    if "largest_difference" in row:
        click.echo(f"read back by load.py, its outputs differ by {row['largest_difference']:.1e} of the largest")
    click.echo("\n".join(f"wrote {Path(row['out']) / name}" for name in row["files"]))


@click.command()
@click.argument("trial", metavar="TRIAL")
@store_option
@click.option("--image", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A picture.")
@click.option("--times", metavar="START:STOP:STEP", help="Times in ms; default: all at which the model has a signal.")
@click.option("--epoch", type=click.IntRange(min=0), help="Epoch; 0 is the untrained model.")
@click.option("--state", type=click.Choice(["best", "last", "final"]), help="Instead of --epoch; default: best.")
@click.option("--masks", type=click.IntRange(min=1), default=1000, show_default=True, help="Random masks.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the masks.")
@click.option("--scaled", is_flag=True, help="Multiply the maps by the model's visual scaler over time.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write to.")
@json_option
def saliency(trial: str, as_json: bool, **asked: Any) -> None:
    """Show what of a picture a trained MEG model looks at over time: frames, strip, GIF, array.

    TRIAL is the beginning of a trial_id in `results`.
    """
    from sweeper.export.saliency import Asked, export_saliency

    row = export_saliency(Asked(trial=trial, **asked))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": [row]}, allow_nan=False))
        return
    click.echo(f"trial {row['trial_id'][:12]} ({row['trial']}), epoch {row['epoch']}, {len(row['times_ms'])} times")
    if row["without_signal_ms"]:
        click.echo(f"{len(row['without_signal_ms'])} of them without a signal of the model: their maps are empty")
    shown = [name for name in row["files"] if not name.startswith("frames/")]
    click.echo("\n".join(f"wrote {Path(row['out']) / name}" for name in [*shown, "frames/"]))


@click.command()
@store_option
@click.option(
    "--features", is_flag=True, help="Frozen features on this machine, too: they are computed again when needed."
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of frozen features, where `run --cache` named one.",
)
@click.option("--yes", is_flag=True, help="Remove it; without, it is only shown.")
@json_option
def gc(store: str, features: bool, cache: Path | None, yes: bool, as_json: bool) -> None:
    """Show what no sweep needs: damaged objects, leftovers, results of no revision."""
    from sweeper.data.room import kept_entries, remove_entry
    from sweeper.store.garbage import find_garbage, remove
    from sweeper.store.lease import held
    from sweeper.store.opening import open_store
    from sweeper.store.places import features_folder

    opened = open_store(store, create=False)
    folder = cache or features_folder(opened)
    with held(opened, "gc") if yes else nullcontext():
        found = find_garbage(opened)
        entries = kept_entries(folder) if features or cache else {}
        for each in found if yes else ():
            remove(opened, each)
        for entry in entries if yes else ():
            remove_entry(entry)
    sorts = [(each.sort, len(each.files), each.size) for each in found]
    sorts += [("frozen features", len(entries), sum(entries.values()))] if features or cache else []
    if as_json:
        rows = [{"sort": sort, "files": files, "bytes": size, "removed": yes} for sort, files, size in sorts]
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))
        return
    for sort, files, size in sorts:
        click.echo(f"{sort:<30} {files:>8} files {size / 1e6:>10.1f} MB")
    click.echo("removed" if yes else "nothing was removed; --yes removes it")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the lines that teach a shell to complete: eval "$(sweeper completion bash)"."""
    click.echo(script(shell))

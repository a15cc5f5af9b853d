"""What verbs share: options, exit codes, and how a sweep is named."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from sweeper.completion import complete_spec, complete_store, complete_sweep

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE = "sweeper-store"
TYPED = "SWEEPER_TYPED"
"""Variable of a verb that was sent to a head: how the user named sweep and cluster."""
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Group(click.Group):
    """Prints a user's mistake as it is, without a traceback, and exits with its code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a verb; a mistake of the user ends it with the code that the error carries."""
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


def stand_in_option(verb: F) -> F:
    """Adds `--stand-in`."""
    help_text = "Run on the self-made set with the tiny CLIP, under another sweep name."
    return click.option("--stand-in", is_flag=True, help=help_text)(verb)


def store_option(verb: F) -> F:
    """Adds `--store`."""
    return click.option(
        "--store",
        default=DEFAULT_STORE,
        envvar="SWEEPER_STORE",
        show_default=True,
        metavar="DIR|s3://...",
        shell_complete=complete_store,
        help="Where results are: a folder, or s3://BUCKET/PREFIX.",
    )(verb)


def json_option(verb: F) -> F:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)


@contextmanager
def leaving_quietly() -> Iterator[None]:
    """Lets Ctrl-C end a verb that only looks."""
    with suppress(KeyboardInterrupt):
        yield


def spec_argument(verb: F) -> F:
    """Adds the argument SPEC."""
    spec_path = click.Path(dir_okay=False, path_type=Path)
    return click.argument("spec", type=spec_path, shell_complete=complete_spec)(verb)


def sweep_argument(verb: F) -> F:
    """Adds the argument SWEEP."""
    return click.argument("sweep", metavar="SWEEP", shell_complete=complete_sweep)(verb)


def sweep_or_all_argument(verb: F) -> F:
    """Adds the argument SWEEP, which may be left out."""
    return click.argument("sweep", metavar="[SWEEP]", required=False, shell_complete=complete_sweep)(verb)


def open_sweep(sweep: str, store: str, stand_in: bool) -> Any:
    """Returns the view of a sweep named by its spec's path or by its name in the store."""
    from sweeper.reporting.load import open_view
    from sweeper.store.opening import open_store

    view = open_view(open_store(store, create=False), name_of(sweep, stand_in))
    tell_if_edited(sweep, stand_in, view.revision.spec)
    return view


def tell_if_edited(sweep: str, stand_in: bool, kept: Any) -> None:
    """Says that a spec's file asks for something else by now than what was run; `kept` is that spec, maybe as JSON."""
    spec = spec_in(sweep, stand_in)
    if spec is None:
        return
    places = {"resources", "tracking"}
    before = type(spec).model_validate(kept)
    if spec.model_dump(exclude=places) != before.model_dump(exclude=places):
        click.echo(f"{sweep} was edited since it was run; `sweeper run {sweep}` does what it asks for now", err=True)


def name_of(sweep: str, stand_in: bool) -> str:
    """Returns the name of a sweep that is given by its spec's path or by its name."""
    from sweeper.spec.naming import stand_in_name

    spec = spec_in(sweep, stand_in)
    if spec is not None:
        return str(spec.name)
    return stand_in_name(sweep) if stand_in else sweep


def spec_in(sweep: str, stand_in: bool) -> Any:
    """Returns the spec in a file, None for the name of a sweep."""
    if Path(sweep).suffix not in (".yaml", ".yml") and not Path(sweep).is_file():
        return None
    from sweeper.spec.load import load_spec

    return load_spec(sweep, stand_in=stand_in)


def typed() -> tuple[str, ...]:
    """Returns how the user named sweep and cluster, where the verb was sent from another machine; else nothing."""
    return tuple(shlex.split(os.environ.get(TYPED, "")))


def print_results(
    view: Any,
    format_: Any,
    what: Any = "trials",
    out: Path | None = None,
    store: str | None = None,
    subjects: tuple[str, str] | None = None,
) -> None:
    """Prints a table, or writes it to a file."""
    from sweeper.reporting.output import print_table

    print_table(view, what=what, format_=format_, out=out, store=store, subjects=subjects)


def search_figures(view: Any) -> Iterator[tuple[str, bytes]]:
    """Yields name and PNG bytes of the figures of a search; none, and nothing of Optuna, where the sweep is none."""
    if view.revision.spec.search is not None:
        from sweeper.search import figures

        yield from figures.search_figures(view)


def draw(view: Any, folder: Path, store: str, subjects: tuple[str, str] | None = None) -> None:
    """Draws the figures of a sweep into a folder and says so."""
    from sweeper.reporting.figures import save_figures
    from sweeper.store.opening import open_store

    paths = save_figures(view, folder, open_store(store, create=False), subjects)
    for name, data in search_figures(view):
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(data)
    for path in paths:
        click.echo(f"drew {path}", err=True)

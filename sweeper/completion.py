"""What a shell offers behind a verb: names of sweeps and spec files. Imports little, since it runs at every tab."""

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "sweeper"
_SPECS = ("*.yaml", "*.yml")


def complete_sweep(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the sweeps of the store (`--store` if it stands before, else its default) and the specs that fit."""
    sweeps = [name for name in _sweep_names(ctx.params.get("store")) if name.startswith(incomplete)]
    files = complete_spec(ctx, param, incomplete)
    if sweeps and files[0].type == "file":  # a list of names and the shell's own completion do not mix in bash
        files = []
    return [CompletionItem(name, help="sweep in the store") for name in sweeps] + files


def complete_spec(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns YAML files that begin so, also those one folder further down; else what the shell itself finds."""
    del ctx, param
    found = [CompletionItem(path) for path in _specs(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def complete_store(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the folders that the shell itself finds."""
    del ctx, param
    return [CompletionItem(incomplete, type="dir")]


def script(shell: str) -> str:
    """Returns the lines that teach a shell to complete `sweeper`."""
    found = get_completion_class(shell)
    assert found is not None, f"{shell} is one of {SHELLS}"
    completion = found(click.Command(PROGRAM), {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    return completion.source_template % completion.source_vars()


def _sweep_names(store: str | None) -> list[str]:
    """Returns the names of all sweeps of a folder as `store.revisions.sweep_names` does, without what that imports.

    A store elsewhere is not asked: a tab may not wait for a network.
    """
    from sweeper.errors import StoreError
    from sweeper.store.local import LocalStore

    try:
        keys = list(LocalStore(Path(store or "sweeper-store"), create=False).keys("sweeps"))
    except StoreError:
        return []
    return sorted({key.rpartition(".")[0] for key in keys})


def _specs(incomplete: str) -> Iterator[str]:
    """Yields the files in sorted order, written as the user began to write them."""
    folder, _, beginning = incomplete.rpartition("/")
    start = Path(folder or ("/" if incomplete.startswith("/") else ".")).expanduser()
    written = incomplete[: len(incomplete) - len(beginning)]
    for pattern in (*_SPECS, *(f"*/{name}" for name in _SPECS)):
        for path in sorted(start.glob(pattern)):
            name = path.relative_to(start).as_posix()
            if name.startswith(beginning) and not name.startswith("."):
                yield written + name

"""`--address` of a head: the same verb, run there as a Ray Job, from any machine that reaches the head's port 8265."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from sweeper.cli.common import EXIT_INTERRUPTED, TYPED, name_of, spec_in

if TYPE_CHECKING:
    from sweeper.execution.job_log import Output
    from sweeper.execution.ray_jobs import Ended, VerbJob

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
_HELP = (
    "Ray address. `http://HEAD:8265`: do it there, as a Ray Job. `auto`: the cluster of this machine. "
    "Default: the spec's resources.address, then RAY_ADDRESS."
)


def address_option(*, is_used: bool) -> Callable[[F], F]:
    """Adds `--address`; with that of a head, the verb runs there.

    Args:
        is_used: the verb itself takes any other address, too; else it reads the store only, and needs none.
    """

    def add(verb: F) -> F:
        @click.option("--address", help=_HELP)
        @click.pass_context
        @wraps(verb)
        def here_or_there(context: click.Context, /, *, address: str | None, **options: Any) -> Any:
            from sweeper.addresses import cluster_address, is_head

            named = str(options.get("spec") or options.get("sweep") or "")
            if address is None and options.get("backend") == "local":  # in this process, wherever clusters are
                return verb(**options, address=None)
            asked = address or _address_in(named, options["stand_in"])
            found = cluster_address(asked, None)
            if found is not None and is_head(found):
                sys.exit(_run_there(context, found, named))
            return verb(**options, **({"address": address} if is_used else {}))

        return here_or_there  # type: ignore[return-value]

    return add


def _address_in(named: str, stand_in: bool) -> str | None:
    """Returns `resources.address` as written in a spec's file; the verb itself checks the spec."""
    if stand_in or not Path(named).is_file():  # a stand-in runs here
        return None
    from sweeper.spec.load import written_in

    resources = written_in(named).get("resources")
    address = resources.get("address") if isinstance(resources, dict) else None
    return address if isinstance(address, str) else None


def _run_there(context: click.Context, address: str, named: str) -> int:
    """Runs a verb on a head and prints what it prints; returns its exit code."""
    from sweeper.execution.parcel import packed

    verb, stand_in = str(context.info_name), context.params["stand_in"]
    name, spec = name_of(named, stand_in), spec_in(named, stand_in)
    takes_spec = "spec" in context.params and spec is not None
    words = list(_words(context))
    with packed(Path(named) if takes_spec else None, stand_in=stand_in) as parcel:
        from sweeper.execution.ray_jobs import Head

        replaced = ["--stand-in"] if stand_in else []
        sent = [str(parcel.spec), *replaced] if takes_spec else [name] if named else []
        output: Output = "plain" if verb == "run" else "live" if context.params.get("follow") else "encoded"
        typed = {TYPED: shlex.join([named, *replaced, "--address", address])}
        job = Head(address).submit([verb, *sent, *words, "--address", "auto"], parcel, output, typed)
    if output == "encoded":
        return _show(job.wait(), said_to_stderr=True)
    where = shlex.join([name, "--store", context.params["store"], "--address", address])
    if output == "live":
        return _look(job, f"sweeper {verb} --follow {where}")
    click.echo(f"submitted to {address} as {job.job_id}; Ctrl-C leaves it running", err=True)
    return _follow(job, where)


def _follow(job: "VerbJob", where: str) -> int:
    """Follows a run. Who leaves is told what may be done from here; the run goes on."""
    try:
        ended = job.follow(lambda text: click.echo(text, nl=False, err=True), f"sweeper logs --follow {where}")
        return _show(ended, said_to_stderr=True)
    except KeyboardInterrupt:
        verbs = ("status", "logs --follow", "results", "stop")
        lines = [f"\nleft; {job.job_id} goes on. From here:", *(f"  sweeper {verb} {where}" for verb in verbs)]
        click.echo("\n".join(lines), err=True)
        return EXIT_INTERRUPTED


def _look(job: "VerbJob", again: str) -> int:
    """Shows what a verb prints that goes on until it is left, and ends it then."""
    try:
        return _show(job.follow(lambda text: click.echo(text, nl=False), again), said_to_stderr=False)
    except KeyboardInterrupt:
        job.stop()
        return 0


def _show(ended: "Ended", *, said_to_stderr: bool) -> int:
    click.echo(ended.said, nl=False, err=said_to_stderr)
    sys.stdout.flush()
    sys.stdout.buffer.write(ended.output)
    sys.stdout.buffer.flush()
    return ended.exit_code


def _words(context: click.Context) -> Iterator[str]:
    """Yields the options that the user gave, as they are given to the verb on the head.

    Raises:
        StoreError: an option names a place by a relative path, which means nothing there.
        click.UsageError: an option is for this machine only.
    """
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params[str(parameter.name)]
        if name in ("spec", "sweep", "stand_in", "address"):
            continue
        if name == "store" or isinstance(parameter.type, click.Path):
            _check_place(parameter.opts[-1], value)
        if context.get_parameter_source(name) not in _GIVEN:
            continue
        if name == "watched" and value:
            raise click.UsageError("--watch looks at a store that this machine sees; leave it out with --address")
        if isinstance(parameter, click.Option) and parameter.is_flag:
            yield from [parameter.opts[-1]] if value else []
        else:
            for each in value if parameter.multiple else [value]:
                yield from [parameter.opts[-1], str(each)]


def _check_place(option: str, value: Any) -> None:
    """Refuses a relative path: the job's own folder there goes away with the job, and results with it."""
    from sweeper.errors import Problem, StoreError

    if value is None or os.path.isabs(value) or "://" in str(value):
        return
    environment = ", or set SWEEPER_STORE once" if option == "--store" else ""
    remedy = f"Give one that all nodes see, such as {option} /shared/{Path(value).name}{environment}"
    raise StoreError(
        Problem(where=option, rule="on a cluster this is an absolute path there", got=str(value), remedy=remedy)
    )

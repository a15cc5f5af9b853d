"""The command line: thin verbs. Everything heavier than click is imported inside the verb that needs it."""

import click

from sweeper.cli.common import Group
from sweeper.cli.planning import data, doctor, plan, schema, validate
from sweeper.cli.reading import logs, results, status
from sweeper.cli.running import cancel, retry, run, stop
from sweeper.cli.sharing import completion, export, gc, sync, ui


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweeper")
def main() -> None:
    """Sweeps of CLIP-HBA trainings: perturbation windows, loss weights, adapters, subjects.

    A SPEC is a YAML file; a SWEEP is a spec's path or its name in the store.
    """


for _verb in (run, plan, validate, status, logs, results, ui, sync, export, completion):
    main.add_command(_verb)
for _verb in (stop, cancel, retry, gc, data, doctor, schema):
    main.add_command(_verb)

"""The command line: thin verbs. Everything heavier than click is imported inside the verb that needs it."""

import click

from sweeper.cli.common import Group
from sweeper.cli.planning import data, doctor, plan, schema, validate
from sweeper.cli.reading import logs, results, status, verify
from sweeper.cli.running import cancel, retry, run, stop
from sweeper.cli.sharing import completion, export, gc, saliency, sync, ui


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweeper")
def main() -> None:
    """Sweeps of CLIP-HBA trainings: perturbation windows, loss weights, adapters, subjects.

    A SPEC is a YAML file; a SWEEP is a spec's path or its name in the store.
    """


_VERBS = {  # in the order in which `--help` lists them
    run: "Train what is missing; again: resume or extend.",
    plan: "Say what would be trained and what it costs.",
    validate: "Check a spec, all problems at once.",
    status: "Show how a sweep stands, or all sweeps.",
    logs: "Show what the driver and the workers said.",
    results: "Show one row per trial; curves, figures, files.",
    stop: "End a running sweep after the epochs in progress.",
    cancel: "End a running sweep now.",
    retry: "Take failures back, so that run tries again.",
    ui: "Serve the MLflow page.",
    sync: "Bring an MLflow server up to date.",
    export: "Write a trained adapter, weights or embeddings.",
    saliency: "Show what a MEG model looks at over time.",
    verify: "Read all that a sweep holds, name what is damaged.",
    gc: "Show what no sweep needs, or remove it.",
    data: "Look at data manifests.",
    doctor: "Compare network and data with the published ones.",
    schema: "Print the JSON Schema of a spec file.",
    completion: "Print what teaches a shell to complete.",
}
for _verb, _text in _VERBS.items():
    _verb.short_help = _text
    main.add_command(_verb)

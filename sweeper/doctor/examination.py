"""The examination of one spec: data first, since it needs neither weights nor pictures, then the network."""

from sweeper.data.dataset import Dataset
from sweeper.data.manifest import Manifest
from sweeper.data.parts import Problems
from sweeper.data.reading import read_parts
from sweeper.doctor.alignment import behavioral
from sweeper.doctor.data_checks import Tables, check_data, order_cause
from sweeper.doctor.judge import Cause, Figure, judge, why_inapplicable
from sweeper.doctor.published import PUBLISHED_NETWORK, NetworkFigures
from sweeper.doctor.report import Report, Row, unfinished
from sweeper.errors import DataError, ModelError, Problem
from sweeper.inputs import dataset_of, manifest_of, weights_of
from sweeper.spec.axes import SweptTrial, expand
from sweeper.spec.schema import SweepSpec, TrialConfig


def examine(spec: SweepSpec, *, figures: NetworkFigures = PUBLISHED_NETWORK) -> Report:
    """Compares network and data of a spec with the published ones.

    Args:
        spec: of a sweep over networks or data sets, the first trial's are examined.
        figures: what the published network computes.

    Raises:
        SpecError: the spec breaks a rule.
        Unfinished: weights or images are absent; it carries the checks that need neither.
    """
    trials = expand(spec)
    config = trials[0].config.baseline()
    manifest = manifest_of(config.data.manifest)
    tables = _tables(manifest, config)
    inapplicable = why_inapplicable(
        is_stand_in=spec.stand_in, is_generated=manifest.generator is not None, parts=tables.parts
    )
    rows = [_subject(trials), *check_data(tables, config, inapplicable)]
    problems: list[Problem] = []
    try:
        weights = weights_of(config.model)
    except ModelError as error:
        problems += error.problems
    try:
        dataset = dataset_of(config)
    except DataError as error:
        problems += error.problems
    title = _title(spec.name, config, stand_in=spec.stand_in)
    if problems:
        raise unfinished(Report(title=title, rows=tuple(rows), missing=tuple(problems)))
    from sweeper.doctor.measure import measure
    from sweeper.doctor.network_checks import NetworkChecks

    checks = NetworkChecks(
        config,
        weights,
        measure(config, weights, dataset),
        figures,
        inapplicable=inapplicable,
        order_cause=None if inapplicable else _order_cause(dataset),
    )
    return Report(title=title, rows=(*rows, *checks.rows()))


def _tables(manifest: Manifest, config: TrialConfig) -> Tables:
    """Reads what can be read; problems with images are met again, and raised, when the data set is opened."""
    as_printed = read_parts(manifest, "none", Problems())
    repaired = as_printed if manifest.generator else read_parts(manifest, "things-uniqueid", Problems())
    parts = as_printed if config.data.relabel == "none" else repaired
    return Tables(parts=parts, as_printed=as_printed, repaired=repaired)


def _order_cause(dataset: Dataset) -> Cause | None:
    held_out = dataset.held_out
    if held_out is None or held_out.targets is None:
        return None
    reference = behavioral(held_out.references)
    return None if reference is None else order_cause(reference.rdm, held_out.images.names, held_out.targets)


def _subject(trials: tuple[SweptTrial, ...]) -> Row:
    networks, sets = {trial.config.model for trial in trials}, {trial.config.data for trial in trials}
    several = Cause(
        text="axes sweep the network or the data: only those of the first trial are examined",
        remedy="Examine a spec without these axes",
    )
    return judge(
        Figure(
            name="networks, data sets of the spec",
            expected="1, 1",
            found=f"{len(networks)}, {len(sets)} in {len(trials)} trials",
            holds=len(networks) == len(sets) == 1,
            chosen=(several,),
        )
    )


def _title(name: str, config: TrialConfig, *, stand_in: bool) -> str:
    title = f"{name}: {config.model.backbone} {config.model.pretrained} on {config.data.manifest}"
    note = "\nSTAND-IN: self-made pictures and the tiny CLIP; these numbers say nothing about THINGS"
    return title + (note if stand_in else "")

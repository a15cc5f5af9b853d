"""Which items a sweep has: every reference of every held-out set, in a fixed order."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sweeper.data.dataset import VALIDATION, HeldOut
from sweeper.errors import DataError, Problem
from sweeper.evaluation.items import Item, OutputKey, rsa_item
from sweeper.evaluation.over_time import course_item, static_item
from sweeper.metrics.rdm import UndefinedMetric, compute_rdm
from sweeper.plan.identity import content_id
from sweeper.spec.schema import Evaluation

_FEWEST_STIMULI = 3  # with two there is one pair, and no ranks
TARGETS = "targets"
VALIDATION_RSA = "rsa_validation"


def set_id(held_out: HeldOut, preprocessing: str) -> str:
    """Returns the identity of a held-out set as the model sees it."""
    return content_id("set", {"images": held_out.images.digest, "preprocessing": preprocessing})[:16]


def items_of(evaluation: Evaluation, sets: Mapping[str, HeldOut], preprocessing: str) -> tuple[Item, ...]:
    """Returns the items of a sweep on its held-out set (named `held_out`) and on further sets, in a fixed order.

    Raises:
        DataError: `evaluation.rsa` names a reference that the manifest lacks.
    """
    items: list[Item] = []
    for name, held_out in sets.items():
        for layer in evaluation.layers:
            items.extend(_items_of_set(evaluation, name, held_out, preprocessing, layer))
    return tuple(items)


def _items_of_set(
    evaluation: Evaluation, name: str, held_out: HeldOut, preprocessing: str, layer: str
) -> Iterable[Item]:
    key = OutputKey(set_id=set_id(held_out, preprocessing), layer=layer)
    suffix = "" if layer == "output" else f"_{layer}"
    over_time = held_out.over_time
    if over_time is not None and layer != "output":
        raise _no_such_layer(layer)
    if name == VALIDATION:
        yield rsa_item(f"{VALIDATION_RSA}{suffix}", key, TARGETS, _validation_rdm(held_out), evaluation.metric)
        return
    prefix = "" if name == "held_out" else f"{name}_"
    behavioral = {reference.name: reference.rdm for reference in held_out.references if reference.kind == "behavioral"}
    for column, reference_name in _behavioral(evaluation, held_out, name):
        if column != "rsa_targets" and reference_name in behavioral:
            rdm = behavioral[reference_name]
        elif (found := _target_rdm(held_out)) is not None:
            rdm = found
        elif column == "rsa_targets":  # wanted by nobody in particular
            continue
        else:
            raise _undefined_targets(reference_name)
        if over_time is None:
            yield rsa_item(f"{column}{suffix}", key, reference_name, rdm, evaluation.metric, evaluation.bootstraps)
        else:
            yield static_item(column, key, reference_name, rdm, evaluation.metric, over_time)
    for reference in held_out.references:
        if reference.kind == "neural":
            column, metric = f"rsa_neural_{prefix}{reference.name}{suffix}", evaluation.neural_metric
            if over_time is None:
                yield rsa_item(column, key, reference.name, reference.rdm, metric)
            else:
                yield static_item(column, key, reference.name, reference.rdm, metric, over_time)
    if over_time is not None:
        for course in over_time.references:
            yield course_item(f"rsa_neural_{prefix}{course.name}", key, course, evaluation.neural_metric, over_time)


def _behavioral(evaluation: Evaluation, held_out: HeldOut, set_name: str) -> Iterable[tuple[str, str]]:
    """Yields column and reference of each behavioural RSA of a set; the first is the main one."""
    known = [reference.name for reference in held_out.references if reference.kind == "behavioral"]
    if set_name != "held_out":
        yield from ((f"rsa_behavioral_{set_name}_{name}", name) for name in known)
        return
    has_targets = held_out.targets is not None
    wanted = list(evaluation.rsa) or known[:1] or ([TARGETS] if has_targets else [])
    for name in wanted:
        if name not in known and not (name == TARGETS and has_targets):
            choices = ", ".join([*known, *([TARGETS] if has_targets else [])]) or "none"
            raise DataError(
                Problem(
                    where="evaluation.rsa",
                    rule="names a behavioural reference of the manifest",
                    got=repr(name),
                    remedy=f"Known: {choices}",
                )
            )
    for index, name in enumerate(dict.fromkeys(wanted)):
        if index == 0 or name in known:  # further down, the targets have a column of their own
            yield ("rsa_behavioral" if index == 0 else f"rsa_behavioral_{name}"), name
    if has_targets:
        yield "rsa_targets", TARGETS


def _target_rdm(held_out: HeldOut) -> NDArray[np.float64] | None:
    """Returns the RDM of the held-out targets, None where some have none, such as a row of zeros."""
    assert held_out.targets is not None
    try:
        return compute_rdm(held_out.targets)
    except UndefinedMetric:
        return None


def _no_such_layer(layer: str) -> DataError:
    problem = Problem(
        where="evaluation.layers",
        rule="outputs over time have one layer, output",
        got=layer,
        remedy="Leave evaluation.layers out",
    )
    return DataError(problem)


def _undefined_targets(name: str) -> DataError:
    return DataError(
        Problem(
            where="evaluation.rsa",
            rule="the targets of the held-out stimuli have a correlation RDM",
            got=f"{name}: some row of targets is constant",
            remedy="Leave such stimuli out, or name a behavioural RDM",
        )
    )


def _validation_rdm(held_out: HeldOut) -> NDArray[np.float64]:
    found = _target_rdm(held_out) if len(held_out.images) >= _FEWEST_STIMULI else None
    if found is None:
        problem = Problem(
            where="evaluation.validation",
            rule=f"the targets of the validation stimuli, {_FEWEST_STIMULI} or more, have a correlation RDM",
            got=f"{len(held_out.images)} stimuli, or a constant row of targets",
            remedy="Leave such stimuli out, or choose another seeds.split or data.train_fraction",
        )
        raise DataError(problem)
    return found

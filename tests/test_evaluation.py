"""Evaluation items: addressed by what they compare, shown under a name, undefined with a reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sweeper.data.dataset import HeldOut, ReferenceRdm
from sweeper.data.images import ImageSet
from sweeper.errors import DataError
from sweeper.evaluation import Item, OutputKey, column_of, items_of, records_of
from sweeper.metrics.rdm import compute_rdm
from sweeper.metrics.rsa import rsa_score
from sweeper.spec.schema import Evaluation

M, D = 12, 5
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, size=(M, 8, 8, 3), dtype=np.uint8)
TARGETS = RNG.gamma(1.0, size=(M, D)).astype(np.float32)
RDMS = {name: compute_rdm(RNG.normal(size=(M, D))) for name in ("triplets", "ratings", "it", "v1")}
OUTPUTS = RNG.normal(size=(M, D)).astype(np.float32)
LATER = 1000.0


def held_out(
    names: Mapping[str, str] | None = None, *, targets: np.ndarray | None = TARGETS, prefix: str = "image"
) -> HeldOut:
    """Returns a held-out set with the given references: kind by name."""
    kinds = {"triplets": "behavioral", "ratings": "behavioral", "it": "neural"} if names is None else names
    references = tuple(
        ReferenceRdm(name=name, kind=kind, rdm=RDMS[name], source="made up") for name, kind in kinds.items()
    )
    images = ImageSet(names=tuple(f"{prefix}{index}" for index in range(M)), sources=PIXELS)
    return HeldOut(images=images, targets=targets, row_ids=None, references=references)


def items(sets: Mapping[str, HeldOut] | HeldOut | None = None, **evaluation: Any) -> tuple[Item, ...]:
    if not isinstance(sets, Mapping):
        sets = {"held_out": held_out() if sets is None else sets}
    return items_of(Evaluation(**{"bootstraps": 3, **evaluation}), sets, "things")


def columns(*args: Any, **evaluation: Any) -> list[str]:
    return [item.column for item in items(*args, **evaluation)]


def item(column: str = "rsa_behavioral", *args: Any, **evaluation: Any) -> Item:
    return next(item for item in items(*args, **evaluation) if item.column == column)


def test_the_first_behavioural_reference_is_the_main_one() -> None:
    assert columns() == ["rsa_behavioral", "rsa_targets", "rsa_neural_it"]
    assert item().reference == "triplets"
    assert item(rsa=["ratings", "triplets"]).reference == "ratings"
    assert columns(rsa=["ratings", "triplets"])[:2] == ["rsa_behavioral", "rsa_behavioral_triplets"]


def test_without_a_behavioural_reference_the_targets_are_the_main_one() -> None:
    only_neural = held_out({"it": "neural"})
    assert columns(only_neural) == ["rsa_behavioral", "rsa_targets", "rsa_neural_it"]
    assert item("rsa_behavioral", only_neural).reference == "targets"
    assert columns(held_out({"it": "neural"}, targets=None)) == ["rsa_neural_it"]


def test_targets_named_beside_another_reference_keep_their_own_column() -> None:
    found = items(rsa=["triplets", "targets"])
    assert [item.column for item in found] == ["rsa_behavioral", "rsa_targets", "rsa_neural_it"]
    assert len({item.item_id for item in found}) == len(found)


def test_a_reference_named_twice_is_measured_once() -> None:
    assert columns(rsa=["triplets", "ratings", "ratings"]).count("rsa_behavioral_ratings") == 1


def test_layers_have_columns_and_outputs_of_their_own() -> None:
    found = items(layers=["output", "embedding"])
    assert [(item.column, item.outputs.layer) for item in found] == [
        ("rsa_behavioral", "output"),
        ("rsa_targets", "output"),
        ("rsa_neural_it", "output"),
        ("rsa_behavioral_embedding", "embedding"),
        ("rsa_targets_embedding", "embedding"),
        ("rsa_neural_it_embedding", "embedding"),
    ]


def test_further_sets_are_named_in_their_columns() -> None:
    further = held_out({"ratings": "behavioral", "v1": "neural"}, targets=None)
    found = items({"held_out": held_out(), "objects92": further})
    assert [item.column for item in found][3:] == ["rsa_behavioral_objects92_ratings", "rsa_neural_objects92_v1"]


@pytest.mark.parametrize(
    ("value", "column"), [("rsa", "rsa_x"), ("rsa_se", "rsa_x_se"), ("rsa_centered", "rsa_x_centered")]
)
def test_values_stand_behind_their_items_name(value: str, column: str) -> None:
    assert column_of("rsa_x", value) == column


def test_an_unknown_reference_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"evaluation\.rsa: .*Got 'tripplets'.*Known: triplets, ratings, targets"):
        items(rsa=["tripplets"])
    with pytest.raises(DataError, match="Known: triplets, ratings, targets"):
        items(rsa=["it"])  # neural ones are always measured
    with pytest.raises(DataError, match="Known: none"):
        items(held_out({}, targets=None), rsa=["targets"])


def test_an_item_is_the_same_under_other_names() -> None:
    renamed = held_out({"triplets": "behavioral"}, prefix="photo")
    references = tuple(replace(reference, name="new name", source="x") for reference in renamed.references)
    other = HeldOut(images=renamed.images, targets=TARGETS, row_ids=None, references=references)
    assert item("rsa_behavioral", other).item_id == item().item_id
    neural = items({"held_out": held_out(), "further": held_out({"it": "neural"}, targets=None)})
    by_column = {item.column: item.item_id for item in neural}
    assert by_column["rsa_neural_it"] == by_column["rsa_neural_further_it"]


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "cosine"},
        {"bootstraps": 4},
        {"rsa": ["ratings"]},
        {"layers": ["embedding"]},
        {"preprocessing": "clip"},
        {"pixels": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_item_is_another_one_when_anything_compared_changes(change: dict[str, Any]) -> None:
    preprocessing = change.pop("preprocessing", "things")
    images = ImageSet(names=held_out().images.names, sources=PIXELS ^ np.uint8(change.pop("pixels", 0)))
    sets = {"held_out": replace(held_out(), images=images)}
    found = items_of(Evaluation(**{"bootstraps": 3, **change}), sets, preprocessing)[0]
    assert found.item_id != item().item_id


def test_ids_never_change() -> None:
    rdm = np.array([[0.0, 0.5], [0.5, 0.0]])
    reference = ReferenceRdm(name="r", kind="behavioral", rdm=rdm, source="made up")
    images = ImageSet(names=("a", "b"), sources=np.zeros((2, 2, 2, 3), np.uint8))
    tiny = HeldOut(images=images, targets=None, row_ids=None, references=(reference,))
    (found,) = items(tiny)
    assert (found.item_id, found.outputs.store_key("state")) == ("45ba535812e932c4", "state.b84d1f6f4fdc7062.output")


def test_a_record_holds_the_rsa_the_centred_rsa_and_its_error() -> None:
    record = item().record("state", 7, OUTPUTS, LATER)
    assert (record.state_id, record.epoch, record.item, record.measured_at) == ("state", 7, item().item_id, LATER)
    assert record.values["rsa"] == rsa_score(compute_rdm(OUTPUTS), RDMS["triplets"])
    assert record.values["rsa_centered"] == rsa_score(compute_rdm(OUTPUTS, center=True), RDMS["triplets"])
    assert set(record.values) == {"rsa", "rsa_centered", "rsa_se"}
    assert record.reasons == {}


def test_every_behavioural_item_has_an_error_and_a_centred_score() -> None:
    whole = {"rsa", "rsa_centered", "rsa_se"}
    assert [set(item.record("s", 0, OUTPUTS, LATER).values) for item in items()] == [whole, whole, {"rsa"}]
    assert set(item(bootstraps=0).record("s", 0, OUTPUTS, LATER).values) == {"rsa", "rsa_centered"}


def test_the_error_is_drawn_from_the_same_stimuli_at_every_epoch() -> None:
    errors = [item().record(state, epoch, OUTPUTS, LATER).values["rsa_se"] for state, epoch in (("a", 0), ("b", 9))]
    assert errors[0] == errors[1]
    assert isinstance(errors[0], float)
    assert errors[0] > 0


def test_the_metric_is_that_of_the_evaluation() -> None:
    cosine = item(metric="cosine").record("s", 0, OUTPUTS, LATER).values["rsa"]
    assert cosine == rsa_score(compute_rdm(OUTPUTS, "cosine"), RDMS["triplets"])


def test_neural_references_have_a_metric_of_their_own() -> None:
    """As in the study: Pearson against behaviour, cosine against the brain."""
    found = {each.column: each for each in items(neural_metric="cosine")}
    neural = found["rsa_neural_it"].record("s", 0, OUTPUTS, LATER).values["rsa"]
    behavioral = found["rsa_behavioral"].record("s", 0, OUTPUTS, LATER).values["rsa"]
    assert neural == rsa_score(compute_rdm(OUTPUTS, "cosine"), RDMS["it"])
    assert behavioral == rsa_score(compute_rdm(OUTPUTS, "correlation"), RDMS["triplets"])


def test_an_undefined_rsa_is_none_with_its_reason() -> None:
    record = item().record("state", 0, np.ones((M, D), np.float32), LATER)
    assert record.values == {"rsa": None, "rsa_centered": None, "rsa_se": None}
    assert set(record.reasons) == set(record.values)
    assert all(len(reason) > 10 for reason in record.reasons.values())


def test_what_is_defined_is_kept_beside_what_is_not() -> None:
    """Two images lie at the mean of all: they have a correlation, but nothing is left of them after centring."""
    base, steps = np.arange(D), RNG.integers(-9, 9, size=(5, D))
    outputs = np.stack([base, base, *(base + steps), *(base - steps)]).astype(np.float32)
    record = item().record("state", 0, outputs, LATER)
    assert isinstance(record.values["rsa"], float)
    assert record.values["rsa_centered"] is None
    assert set(record.reasons) == {"rsa_centered"}


def test_records_are_made_of_the_outputs_at_hand() -> None:
    found = items(layers=["output", "embedding"])
    key = OutputKey(set_id=found[0].outputs.set_id, layer="embedding")
    records = records_of(found, "state", 3, {key: OUTPUTS}, LATER)
    assert [record.item for record in records] == [item.item_id for item in found if item.outputs == key]


def test_the_targets_rdm_is_that_of_the_targets_whatever_references_are_called() -> None:
    disguised = replace(held_out().references[2], name="targets")
    sets = replace(held_out(), references=(*held_out().references[:2], disguised))
    np.testing.assert_array_equal(item("rsa_targets", sets).rdm, compute_rdm(TARGETS))


def test_targets_without_an_rdm_are_left_out_unless_they_are_the_main_reference() -> None:
    blank = TARGETS.copy()
    blank[3] = 0.0
    assert columns(held_out(targets=blank)) == ["rsa_behavioral", "rsa_neural_it"]
    with pytest.raises(DataError, match="some row of targets is constant"):
        items(held_out({"it": "neural"}, targets=blank))


def test_tables_are_told_what_stands_behind_a_column() -> None:
    assert item().describe() == {
        "item": item().item_id,
        "column": "rsa_behavioral",
        "reference": "triplets",
        "metric": "correlation",
        "set": item().outputs.set_id,
        "layer": "output",
    }

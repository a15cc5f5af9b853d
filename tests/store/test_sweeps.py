"""Revisions: the same content once, an edited spec under the next number, two savers at once."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial, resolve
from sweeper.spec.axes import expand
from sweeper.spec.load import parse_spec
from sweeper.spec.schema import SweepSpec
from sweeper.store.local import LocalStore
from sweeper.store.revisions import sweep_names
from sweeper.store.sweeps import Revision, latest_revision, save_revision

TEXT = """
name: {name}
data: {{manifest: things.yaml}}
model: {{adapter: {{alpha: 16}}}}
training: {{max_epochs: 10}}
perturbation: {{kind: random_target, length: 2}}
axes:
  perturbation.start: {starts}
  data.train_fraction: [0.8]
  training.optimizer.betas: [[0.9, 0.999], [0.8, 0.99]]
"""
INPUTS = Inputs(data="pool", model=(("weights", "w"),), device="cpu", device_model="H100")
ITEMS: tuple[dict[str, Any], ...] = ({"item": "i", "column": "rsa_behavioral"},)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def sweep(starts: str = "[2, 4]", name: str = "grid") -> tuple[SweepSpec, str, tuple[Trial, ...]]:
    text = TEXT.format(starts=starts, name=name)
    spec = parse_spec(text, "grid.yaml")
    swept = [(trial.swept, trial.config) for trial in expand(spec)]
    return spec, text, resolve(swept, lambda config: INPUTS)


def save(store: LocalStore, starts: str = "[2, 4]", name: str = "grid") -> Revision:
    return save_revision(store, *sweep(starts, name), ITEMS)


def save_elsewhere(root: Path, starts: str, start: Any) -> None:
    store = LocalStore(root)
    start.wait()
    save(store, starts)


def test_a_sweep_of_an_older_semantics_keeps_its_ids(store: LocalStore) -> None:
    spec, text, trials = sweep()
    older = resolve(
        [(trial.swept, trial.config) for trial in expand(spec)],
        lambda config: replace(INPUTS, semantics=INPUTS.semantics - 1),
    )
    save_revision(store, spec, text, older, ITEMS)
    found = latest_revision(store, "grid")
    assert found is not None
    assert [trial.lineage for trial in found.trials] == [trial.lineage for trial in older]
    assert found.trials[0].lineage.root != trials[0].lineage.root


def test_a_spec_out_of_the_store_makes_the_same_trials_in_the_same_order(store: LocalStore) -> None:
    """Its axes are not in the order of the alphabet."""
    saved = save(store)
    found = latest_revision(store, "grid")
    assert found is not None
    assert [trial.swept for trial in expand(found.spec)] == [trial.swept for trial in expand(saved.spec)]
    assert next(name for name, _ in expand(found.spec)[0].swept).startswith("perturbation")


def test_a_revision_comes_back_as_it_was(store: LocalStore) -> None:
    spec, text, trials = sweep()
    saved, found = save(store), latest_revision(store, "grid")
    assert found == saved
    assert (found.number, found.spec, found.source, found.items) == (1, spec, text, ITEMS)
    assert found.trials == trials
    assert [trial.name for trial in found.trials] == [trial.name for trial in trials]
    assert [trial.lineage for trial in found.trials] == [trial.lineage for trial in trials]


def test_the_same_content_is_saved_once(store: LocalStore) -> None:
    assert save(store) == save(store)
    assert list(store.keys("sweeps")) == ["grid.000001"]


def test_an_edited_spec_is_the_next_revision(store: LocalStore) -> None:
    assert [save(store, starts).number for starts in ("[2]", "[2, 4]", "[2]")] == [1, 2, 3]
    latest = latest_revision(store, "grid")
    assert latest is not None
    assert latest.number == 3
    assert len(latest.trials) == 2 * (1 + 1)


def test_new_items_are_a_new_revision(store: LocalStore) -> None:
    save(store)
    assert save_revision(store, *sweep(), ({**ITEMS[0], "column": "rsa_targets"},)).number == 2


def test_sweeps_are_told_apart_by_their_whole_name(store: LocalStore) -> None:
    for name in ("grid", "grid.2", "grid2"):
        assert save(store, name=name).number == 1
    assert sweep_names(store) == ("grid", "grid.2", "grid2")
    assert latest_revision(store, "gri") is None
    found = latest_revision(store, "grid")
    assert found is not None
    assert found.spec.name == "grid"


def test_the_tenth_revision_is_newer_than_the_second(store: LocalStore) -> None:
    for index in range(11):
        save(store, f"[{index % 2 + 2}]")
    latest = latest_revision(store, "grid")
    assert latest is not None
    assert latest.number == 11


def test_a_damaged_revision_leaves_the_one_before(store: LocalStore) -> None:
    save(store, "[2]")
    save(store, "[4]")
    path = store.path("sweeps", "grid.000002")
    path.write_bytes(path.read_bytes()[:-1])
    found = latest_revision(store, "grid")
    assert found is not None
    assert found.number == 1
    assert save(store, "[6]").number == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("starts", [["[2]", "[2]"], ["[2]", "[4]"]], ids=["same", "different"])
def test_two_savers_at_once_lose_nothing(tmp_path: Path, starts: list[str]) -> None:
    store = LocalStore(tmp_path / "store")
    context = multiprocessing.get_context("fork")
    start = context.Event()
    savers = [context.Process(target=save_elsewhere, args=(store.root, those, start)) for those in starts]
    for saver in savers:
        saver.start()
    start.set()
    for saver in savers:
        saver.join()
    assert [saver.exitcode for saver in savers] == [0, 0]
    assert len(list(store.keys("sweeps"))) == len(set(starts))


def test_who_loses_the_number_takes_the_next(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put = LocalStore.put

    def slower(self: LocalStore, kind: Any, key: str, payload: bytes) -> bool:
        monkeypatch.setattr(LocalStore, "put", put)
        save(store, "[4]")  # another driver comes in between
        return put(self, kind, key, payload)

    monkeypatch.setattr(LocalStore, "put", slower)
    assert save(store, "[2]").number == 2
    assert list(store.keys("sweeps")) == ["grid.000001", "grid.000002"]

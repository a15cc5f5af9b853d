"""From a spec to a resolved sweep: what cannot be measured under one name is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import SpecError
from sweeper.execution import prepare
from sweeper.inputs import held_out_sets


@pytest.mark.parametrize("seed", [1, 2])
def test_states_that_are_shared_are_measured_alike(engine, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Two manifests with one pool, of which the other knows fewer references; another pool shares nothing."""
    other = Path(engine.manifest).with_name(f"other{seed}.yaml")
    other.write_text(engine.manifest.read_text().replace("seed: 1", f"seed: {seed}"))

    def fewer(config: Any, evaluation: Any) -> Any:
        sets = held_out_sets(config, evaluation)
        kept = replace(sets["held_out"], references=sets["held_out"].references[:1])
        return {"held_out": kept} if config.data.manifest == str(other) else sets

    monkeypatch.setattr(prepare, "held_out_sets", fewer)
    axes = {"axes": {"data.manifest": [str(engine.manifest), str(other)]}}
    if seed == 1:
        with pytest.raises(SpecError, match="same held-out sets"):
            engine.sweep(**axes)
    else:
        assert len(engine.sweep(**axes).trials) == 2


def test_combinations_that_name_one_trial_are_counted(engine) -> None:
    """The noise seed changes nothing of a freeze."""
    axes = {"perturbation.kind": ["random_target", "freeze"], "perturbation.start": [2], "seeds.noise": [0, 100, 200]}
    sweep = engine.sweep(perturbation={}, axes=axes)
    assert sum(trial.role != "baseline" for trial in sweep.trials) == 4
    assert sweep.merged == 2


@pytest.mark.parametrize(("batch_size", "batches", "second"), [(16, 12, 12), (16, 12, 15), (2, 96, 96)])
def test_published_noise_may_be_an_epochs_true_batches_apart(
    engine, batch_size: int, batches: int, second: int
) -> None:
    """192 of the 240 drawings are trained on; a nearer seed is refused with the true number."""

    def sweep(other: int) -> Any:
        window = {"kind": "random_target", "noise": "published", "start": 2}
        axes = {"seeds.noise": [0, other]}
        data = {"manifest": "builtin:selfmade"}
        return engine.sweep(data=data, training={"batch_size": batch_size}, perturbation=window, axes=axes)

    assert len(sweep(second).trials) == 3
    with pytest.raises(
        SpecError, match=rf"batches apart \({batches}\) under noise: published. Got 0 and {batches - 1} "
    ):
        sweep(batches - 1)

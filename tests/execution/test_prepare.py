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

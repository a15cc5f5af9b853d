import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from sweeper.plan.trials import Trial
from sweeper.store.local import LocalStore
from sweeper.tracking import artifacts
from sweeper.tracking.points import settled_summary

from .conftest import Server, Sweep, put_state

PNG = b"\x89PNG\r\n\x1a\n"


def best_of(sweep: Sweep, trial: Trial) -> str:
    return trial.lineage.state_ids[settled_summary(sweep.view(), trial)["best_epoch"]]


@pytest.fixture
def kept(sweep: Sweep, store: LocalStore) -> Sweep:
    """A finished sweep whose best states are in the store."""
    sweep.finish()
    for trial in sweep.trials:
        put_state(store, best_of(sweep, trial))
    return sweep


@pytest.fixture
def grid() -> Sweep:
    return Sweep(lengths=(1, 2))


def test_the_best_adapter_is_an_artifact_that_says_whose_it_is(server: Server, kept: Sweep, tmp_path: Path) -> None:
    server.sync(kept.view())
    for trial in kept.trials:
        run, state_id = server.run(trial.trial_id), best_of(kept, trial)
        state = server.store.get("states", state_id)
        assert state is not None
        tags, data = server.tags(run), server.files(run)["best_adapter.safetensors"]
        assert tags["sweeper.best_state"] == f"states/{state_id}"
        assert tags["sweeper.best_state_sha256"] == hashlib.sha256(state).hexdigest()
        tensors = safetensors.numpy.load(data)
        assert list(tensors) == ["dora.a"]  # no moments
        np.testing.assert_array_equal(tensors["dora.a"], safetensors.numpy.load(state)["parameters/dora.a"])
        (tmp_path / "adapter").write_bytes(data)
        with safe_open(tmp_path / "adapter", "np") as opened:
            epoch = str(trial.lineage.state_ids.index(state_id))
            assert opened.metadata() == {"state_id": state_id, "trial_id": trial.trial_id, "epoch": epoch}


def test_the_adapter_is_there_when_its_trial_ends_not_when_the_sweep_does(server: Server, sweep: Sweep) -> None:
    tracker = server.tracker()
    tracker.start(sweep.view())
    sweep.train(sweep.baseline, 5)
    sweep.train(sweep.trial(2))
    put_state(server.store, best_of(sweep, sweep.trial(2)))
    tracker.push(sweep.view(), [sweep.trial(2).trial_id])
    assert "best_adapter.safetensors" in server.files(server.run(sweep.trial(2).trial_id))
    assert "best_adapter.safetensors" not in server.files(server.run(sweep.baseline.trial_id))


def test_a_dropped_state_is_left_out_and_follows_when_it_is_rebuilt(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    run, state_id = server.run(sweep.trial(2).trial_id), best_of(sweep, sweep.trial(2))
    assert "best_adapter.safetensors" not in server.files(run)
    assert server.tags(run)["sweeper.best_state"] == f"states/{state_id}"
    assert "sweeper.best_state_sha256" not in server.tags(run)
    put_state(server.store, state_id)
    server.sync(sweep.view())
    assert "best_adapter.safetensors" in server.files(run)


def test_a_damaged_state_is_no_adapter(server: Server, kept: Sweep) -> None:
    path = server.store.path("states", best_of(kept, kept.trial(2)))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    server.sync(kept.view())
    run = server.run(kept.trial(2).trial_id)
    assert "best_adapter.safetensors" not in server.files(run)
    assert "sweeper.best_state_sha256" not in server.tags(run)


def test_a_large_adapter_has_an_address_only(server: Server, kept: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_ADAPTER_BYTES", 16)
    server.sync(kept.view())
    run = server.run(kept.trial(2).trial_id)
    assert "best_adapter.safetensors" not in server.files(run)
    assert len(server.tags(run)["sweeper.best_state_sha256"]) == 64


def test_a_stored_adapter_is_not_even_read_again(server: Server, kept: Sweep) -> None:
    server.sync(kept.view())
    before = server.content()
    run = server.run(kept.trial(2).trial_id)
    for trial in kept.trials:
        server.store.drop("states", best_of(kept, trial))
        put_state(server.store, best_of(kept, trial), values=5)  # would be another file
    server.sync(kept.view())
    assert server.content() == before
    assert safetensors.numpy.load(server.files(run)["best_adapter.safetensors"])["dora.a"].shape == (4,)


def test_heat_maps_are_images_of_the_sweep(server: Server, grid: Sweep) -> None:
    server.sync(grid.finish().view())
    files = server.files(server.parent())
    assert set(files) == {
        "spec.yaml",
        "heat_maps/recovery.png",
        "heat_maps/recovery_rsa.png",
        "heat_maps/deviation.png",
    }
    assert all(data.startswith(PNG) for name, data in files.items() if name.startswith("heat_maps"))


def test_a_sweep_of_one_length_has_no_heat_map(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    assert "sweeper.heat_maps" not in server.tags(server.parent())


def test_heat_maps_are_drawn_again_only_when_they_show_more(
    server: Server, grid: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    draw = artifacts.draw_recovery
    monkeypatch.setattr(artifacts, "draw_recovery", lambda *args: drawn.append(args) or draw(*args))
    grid.train(grid.baseline)
    grid.train(grid.trials[0])
    server.sync(grid.view())
    first = server.files(server.parent())["heat_maps/recovery.png"]
    server.sync(grid.view())
    assert len(drawn) == 2, "loss and RSA"
    server.sync(grid.finish().view())
    assert len(drawn) == 4
    assert server.files(server.parent())["heat_maps/recovery.png"] != first

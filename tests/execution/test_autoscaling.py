"""A sweep on a cluster that grows from one node to four and shrinks again: Ray's own fake nodes, on this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HEAD = "ray.head.default"
LISTS = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands")
COMMANDS = ("head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": "FAKE_HEAD_NODE_ID",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": "FAKE_HEAD_NODE_ID",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def configuration(address: str) -> dict[str, Any]:
    """Returns a head without GPUs and up to three nodes with one each."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "use_internal_ips": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": "FAKE_HEAD_NODE_ID",
    }
    worker = {"CPU": 4, "GPU": 1, "object_store_memory": 100 * 2**20}
    return {
        "cluster_name": "fake",
        "max_workers": 3,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 100.0,
        "provider": provider,
        "auth": {},
        "head_node_type": HEAD,
        "available_node_types": {
            HEAD: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 3},
        },
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in (*LISTS, *COMMANDS)},
    }


@pytest.fixture
def head(head_process: tuple[str, int]) -> str:
    """The address of a head with an autoscaler."""
    return head_process[0]


@pytest.fixture(scope="module")
def head_process() -> Iterator[tuple[str, int]]:
    """Starts a head with an autoscaler; ends it and all that it started, by their process group."""
    from sweeper.execution import ray_cluster

    ip = ray_cluster.ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"{ip}:{free.getsockname()[1]}"
    folder = Path("/tmp") / f"sweeper-ray-{os.getpid()}"  # sockets need short paths
    folder.mkdir()
    (folder / "cluster.json").write_text(json.dumps(configuration(address)))
    words = ["start", "--head", "--block", "--num-cpus=1", "--num-gpus=0", "--object-store-memory=104857600"]
    words += [f"--port={address.rpartition(':')[2]}", f"--node-ip-address={ip}", f"--temp-dir={folder / 'ray'}"]
    words += [f"--autoscaling-config={folder / 'cluster.json'}", "--disable-usage-stats", "--include-dashboard=false"]
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), *words],
        env={**os.environ, **ENVIRONMENT},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        give_up_at = time.monotonic() + 60
        while "will now block" not in (folder / "head.log").read_text() and time.monotonic() < give_up_at:
            assert process.poll() is None, (folder / "head.log").read_text()
            time.sleep(0.2)
        yield address, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def num_nodes() -> int:
    import ray

    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def test_a_cluster_follows_the_width_of_the_tree(head: str, light: Any, engine: Any, tmp_path: Path) -> None:
    from sweeper.execution import ray_cluster, ray_tune

    seen: list[int] = []

    def slowly(epoch: int) -> None:
        time.sleep(0.5)

    class Watching(ray_tune.RayBackend):
        def run(self, job: Any) -> None:
            events = job.on_events

            def watched(some: list[Any]) -> None:
                seen.append(num_nodes())
                events(some)

            super().run(replace(job, on_events=watched))

    ran = engine.run(
        tmp_path / "store",
        lambda: Watching(light(tmp_path / "log", slowly)),
        axes={"training.optimizer.lr": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]},
        training={"max_epochs": 40},
        resources={"address": head, "cpu": 1},
        gpu=lambda measured: 0.5,
    )
    assert ran.status == "done"
    assert ran.epochs_trained == 6 * 40
    assert max(seen) == 1 + 3, "half a GPU each: six trials are three nodes"
    with ray_cluster.connected(head):
        give_up_at = time.monotonic() + 60
        while num_nodes() > 1 and time.monotonic() < give_up_at:
            time.sleep(0.5)
        assert num_nodes() == 1


def lose_a_node(head_pid: int) -> bool:
    """Kills a launched node and all that runs on it, as a machine that goes away; returns whether there was one."""
    raylets = [each for each in psutil.Process(head_pid).children(recursive=True) if each.name() == "raylet"]
    launched = [each for each in raylets if "--head" not in each.cmdline()]
    for each in [*launched[-1:], *(child for node in launched[-1:] for child in node.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    return bool(launched)


def test_a_node_that_goes_away_while_others_come_changes_no_bit(
    head_process: tuple[str, int], engine: Any, reading: Any, tmp_path: Path
) -> None:
    """Three trials ask for three nodes; the first to train some epochs is lost, and another comes for it."""
    from sweeper.execution import ray_tune

    address, pid = head_process
    seen: list[int] = []
    lost: list[bool] = []
    sweep = {"axes": {"training.optimizer.lr": [0.01, 0.02, 0.03]}, "training": {"max_epochs": 150}}
    assert engine.run(tmp_path / "local", **sweep).status == "done"

    class Losing(ray_tune.RayBackend):
        def run(self, job: Any) -> None:
            def watched(some: list[Any]) -> None:
                seen.append(num_nodes())
                job.on_events(some)
                if not any(lost) and any(event.epoch > 3 for event in some):
                    lost.append(lose_a_node(pid))

            super().run(replace(job, on_events=watched))

    ran = engine.run(
        tmp_path / "store",
        Losing,
        resources={"address": address, "cpu": 1},
        gpu=lambda measured: 1.0,
        **sweep,
    )
    assert ran.status == "done"
    assert any(lost)
    assert max(seen) > 1
    assert reading.records(tmp_path / "store") == reading.records(tmp_path / "local")
    states, undisturbed = reading.states(tmp_path / "store"), reading.states(tmp_path / "local")
    assert {key: states.get(key) for key in undisturbed} == undisturbed

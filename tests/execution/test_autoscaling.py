"""A sweep on a cluster that grows from one node to four, loses one, and shrinks again: Ray's own fake nodes.

Its workers make up what they train, each epoch from the one before it; real ones lose a node in `tests/chaos`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
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
def head() -> Iterator[tuple[str, int]]:
    """Starts a head with an autoscaler, and gives its address and process; ends it and all that it started."""
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
        for each in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def lose_a_node(head_pid: int) -> None:
    """Kills a launched node and all that runs on it, as a machine that goes away."""
    raylets = [each for each in psutil.Process(head_pid).children(recursive=True) if each.name() == "raylet"]
    node = next(each for each in raylets if "--head" not in each.cmdline())
    for each in [node, *node.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def test_a_cluster_follows_the_width_of_the_tree_and_replaces_a_lost_node(
    head: tuple[str, int], light: Any, engine: Any, tmp_path: Path
) -> None:
    """Six trials on half a GPU each ask for three nodes; when all are there, one is lost, and another comes for it."""
    from sweeper.execution import ray_cluster, ray_tune
    from sweeper.execution.ray_cluster import ray

    address, pid = head
    lost = tmp_path / "lost"

    def act(epoch: int) -> None:
        """Waits for all nodes, and once one is lost for another."""
        import ray

        with (tmp_path / "begun").open("a") as file:
            file.write(f"{epoch}\n")
        time.sleep(0.3)
        give_up_at = time.time() + 120
        while len(ray.nodes()) < 1 + 3 + lost.exists() and time.time() < give_up_at:  # the dead are among them
            time.sleep(0.2)

    class Losing(ray_tune.RayBackend):
        def run(self, job: Any) -> None:
            def watched(some: list[Any]) -> None:
                job.on_events(some)
                if not lost.exists() and any(event.epoch == 2 for event in some):
                    lost.touch()
                    lose_a_node(pid)

            super().run(replace(job, on_events=watched))

    ran = engine.run(
        tmp_path / "store",
        lambda: Losing(light(tmp_path / "log", act)),
        axes={"training.optimizer.lr": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]},
        training={"max_epochs": 8},
        resources={"address": address, "cpu": 1},
        gpu=lambda measured: 0.5,
    )
    assert ran.status == "done"
    for trial in ran.sweep.trials:
        rows, state = ran.outcome.view.rows(trial.trial_id), b""
        for epoch, state_id in enumerate(trial.lineage.state_ids):
            state = sha256(state + state_id.encode()).digest()
            assert rows[epoch]["val_loss"] == int.from_bytes(state[:4], "big") / 2**32
    assert len((tmp_path / "begun").read_text().splitlines()) <= 6 * 8 + 2, "it costs the epochs in progress"
    with ray_cluster.connected(address):
        assert [len(ray.nodes()), lost.exists()] == [1 + 3 + 1, True], (
            "three at once, and one for the one that was lost"
        )
        give_up_at = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) > 1 and time.monotonic() < give_up_at:
            time.sleep(0.5)
        assert sum(node["Alive"] for node in ray.nodes()) == 1

"""deploy/slurm.sbatch on one node, with a stand-in for Slurm: the real script, the real Ray, a real signal.

`ray symmetric-run` ends with `ray stop`, which ends every Ray that it can see, so all of it runs in a process
namespace of its own, where it sees no other.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SCRIPT = ROOT / "deploy" / "slurm.sbatch"
ALONE = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork", "--mount-proc"]
SPEC = """\
name: tiny
data: {manifest: small.yaml}
model: {backbone: tiny-clip, pretrained: builtin, adapter: {rank: 4}}
training: {optimizer: {lr: 1e-3}, batch_size: 16, max_epochs: 3000}
evaluation: {bootstraps: 3}
resources: {cpu: 2}  # of the node: one worker, whose start is what takes long
"""
MANIFEST = "name: small\ngenerator: {name: drawings, num_train: 45, num_test: 12, seed: 1}\n"
SRUN = """\
#!/bin/sh
while [ "$1" != ray ]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/bin/sh
echo "$@" >>"$(dirname "$0")/asked"
"""


def has_namespaces() -> bool:
    if shutil.which("unshare") is None or shutil.which("bash") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


class Node:
    """A node of a cluster, as the script sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(BIN)
        (folder / "slurm").mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (folder / "slurm" / name).write_text(text)
            (folder / "slurm" / name).chmod(0o755)
        self.ray = Path("/tmp") / f"sweeper-slurm-{os.getpid()}"  # sockets need short paths
        self.ray.mkdir()

    def sbatch(self, *words: str) -> "subprocess.Popen[bytes]":
        outer = ("RAY_ADDRESS", "SWEEPER_STORE", "SWEEPER_STATE", "MLFLOW_TRACKING_URI", "RAY_AUTH_MODE")
        environment = {name: value for name, value in os.environ.items() if name not in outer}
        environment |= {
            "PATH": f"{self.folder / 'slurm'}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_TMPDIR": str(self.ray / "disk"),
            "SCRATCH": str(self.folder / "scratch"),
            "RAY_TMPDIR": str(self.ray),
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*ALONE, "--kill-child", "bash", str(SCRIPT), *words], env=environment, stdout=log, stderr=log
            )

    def ends(self, job: "subprocess.Popen[bytes]") -> int:
        try:
            return job.wait(timeout=500)
        finally:
            job.kill()
            job.wait()


@pytest.mark.skipif(not has_namespaces(), reason="needs bash and unshare, and the right to use them")
def test_a_sweep_drains_before_the_limit_and_goes_on_when_requeued(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "small.yaml").write_text(MANIFEST)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    words = ("tiny.yaml", "--tracking-uri", "off")
    try:
        job = node.sbatch(*words)
        give_up_at = time.monotonic() + 400
        while b" epochs trained" not in node.log.read_bytes() and time.monotonic() < give_up_at:
            assert job.poll() is None, node.log.read_text()
            time.sleep(0.2)
        (script,) = psutil.Process(job.pid).children()
        script.send_signal(signal.SIGTERM)
        assert node.ends(job) == 0, node.log.read_text()
        assert (tmp_path / "slurm" / "asked").read_text() == f"requeue {os.getpid()}\n", node.log.read_text()
        assert "interrupted; go on with" in node.log.read_text(), "it drained"
        assert not (node.ray / "disk" / f"sweeper-{os.getpid()}").exists()

        (tmp_path / "tiny.yaml").write_text(SPEC.replace("3000", "12"))  # else it would never be done
        assert node.ends(node.sbatch(*words, "--backend", "local")) == 0, node.log.read_text()
        assert "the sweep is done" in node.log.read_text()
        assert (tmp_path / "slurm" / "asked").read_text().count("requeue") == 1, "what is done is not requeued"
    finally:
        shutil.rmtree(node.ray, ignore_errors=True)


@pytest.mark.skipif(not has_namespaces(), reason="needs bash and unshare, and the right to use them")
def test_what_cannot_run_is_not_requeued(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        assert node.ends(node.sbatch("absent.yaml")) == 2, node.log.read_text()
        assert "absent.yaml: the spec must exist." in node.log.read_text()
        assert not (tmp_path / "slurm" / "asked").exists()
    finally:
        shutil.rmtree(node.ray, ignore_errors=True)

"""Verbs from a laptop on a head that takes jobs: a real one on this machine, in folders of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
SPEC = """\
name: tiny
data: {manifest: ../data/small.yaml}
model: {backbone: tiny-clip, pretrained: builtin, adapter: {rank: 4}}
training: {optimizer: {lr: 1e-2}, batch_size: 16, max_epochs: 3}
stopping: {horizon_after_window: 1}
perturbation: {kind: random_target}
axes: {perturbation.start: [1, 2], perturbation.length: [1]}
evaluation: {bootstraps: 3}
resources: {cpu: 2}  # of the head: one worker, whose start is what takes long
"""
LONG = SPEC.replace("name: tiny", "name: long").replace("max_epochs: 3", "max_epochs: 3000")
MANIFEST = "name: small\ngenerator: {name: drawings, num_train: 45, num_test: 12, seed: 1}\n"


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Starts a head; ends it and all that it started, jobs too, which have sessions of their own."""
    folder = Path("/tmp") / f"sweeper-jobs-{os.getpid()}"  # sockets need short paths
    folder.mkdir()
    port, dashboard, agent = free_ports(3)
    words = ["start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", "--object-store-memory=104857600"]
    words += [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    words += [f"--temp-dir={folder / 'ray'}", "--disable-usage-stats"]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        [str(BIN / "ray"), *words],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PATH": path},
        cwd=folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        give_up_at = time.monotonic() + 180
        while "will now block" not in (folder / "head.log").read_text() and time.monotonic() < give_up_at:
            assert process.poll() is None, (folder / "head.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        for each in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Laptop:
    """Another folder, in which a user types; `environment` is what is set there."""

    folder: Path
    environment: dict[str, str]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(BIN / "sweeper"), *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, rc: int | None = 0) -> tuple[str, str]:
        return ended(self.start(*words), rc)


def ended(process: "subprocess.Popen[str]", rc: int | None = 0) -> tuple[str, str]:
    """Returns what a process printed and said, once it has ended with this exit code; None: with any."""
    out, err = process.communicate(timeout=300)
    assert rc in (None, process.returncode), f"{process.args!r}: {process.returncode}\n{out}\n{err}"
    return out, err


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    folder = tmp_path / "laptop"
    (folder / "specs").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "specs" / "tiny.yaml").write_text(SPEC)
    (folder / "specs" / "long.yaml").write_text(LONG)
    (folder / "data" / "small.yaml").write_text(MANIFEST)
    unset = ("RAY_ADDRESS", "SWEEPER_STORE", "MLFLOW_TRACKING_URI")
    return Laptop(folder, {name: value for name, value in os.environ.items() if name not in unset})


def test_a_sweep_is_submitted_followed_and_read_from_another_folder(head: str, laptop: Laptop, tmp_path: Path) -> None:
    there = ("--store", str(tmp_path / "store"), "--address", head)
    out, err = laptop("run", "specs/tiny.yaml", "--tracking-uri", "off", *there)
    assert "3 complete" in out
    assert "epochs trained" in err, "what the run says is followed"
    assert "epochs trained" not in out
    assert "Running entrypoint" not in err, "Ray's own lines are not shown"
    asked = laptop.start("status", "specs/tiny.yaml", "--json", *there)
    words = [str(BIN / "sweeper"), "results", "tiny", "--format", "parquet", "--curves", *there[:2]]
    far, here = (
        subprocess.run(words, cwd=laptop.folder, env=environment, stdout=subprocess.PIPE, check=True).stdout
        for environment in ({**laptop.environment, "RAY_ADDRESS": head}, laptop.environment)
    )
    assert far == here, "every byte arrives"
    assert len(here) > 1000
    status = json.loads(ended(asked)[0])
    assert {row["status"] for row in status["rows"]} == {"complete"}


def test_who_leaves_does_not_stop_it(head: str, laptop: Laptop, tmp_path: Path) -> None:
    store = tmp_path / "store"
    there = ("--store", str(store), "--address", head)
    run = ("run", "specs/long.yaml", "--backend", "local", "--tracking-uri", "off", *there)
    follower = laptop.start(*run)
    assert follower.stderr is not None
    assert any("epochs to train" in line for line in follower.stderr), "the lease is taken"
    follower.send_signal(signal.SIGINT)
    _, err = ended(follower, rc=130)
    assert f"sweeper stop long --store {store} --address {head}" in err
    again, looker = laptop.start(*run), laptop.start("logs", "long", "--follow", *there)
    assert looker.stdout is not None
    assert looker.stdout.readline(), "what it says can be followed again"
    looker.send_signal(signal.SIGINT)
    ended(looker)  # with 0: who only looks interrupts nothing
    assert "which runs long" in ended(again, rc=2)[1], "the lease says who runs it"
    wait_for(lambda: len(list((store / "records").glob("*/*"))) > 1)  # the first is of the untrained model
    assert "asked process" in laptop("stop", "long", *there)[0]
    wait_for(lambda: "Got no run" in laptop("stop", "long", *there[:2], rc=None)[1])  # it drains
    rows = json.loads(laptop("status", "long", "--json", *there[:2])[0])["rows"]
    assert any(row["status"] == "open" and row["last_epoch"] > 0 for row in rows), "what it had trained is kept"


def wait_for(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.5)

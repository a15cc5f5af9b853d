"""A Ray cluster of several nodes on this machine, with ports and a folder of its own; nodes come and go."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from .processes import descendants, kill_now, wait_for

ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
OBJECT_STORE = "--object-store-memory=80000000"


class Cluster:
    """A head, and nodes of one CPU each."""

    def __init__(self, num_nodes: int, *, head_cpus: int = 0) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sweeper-", dir="/tmp"))  # sockets need short paths
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.nodes: list[subprocess.Popen[bytes]] = []
        try:
            words = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--num-cpus={head_cpus}"]
            self._start(*words, f"--temp-dir={self._folder}", "--include-dashboard=false")
            for _ in range(num_nodes):
                self.add_node()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends every process that it started."""
        for process in reversed(self._processes):
            _kill(process)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def roots(self) -> list[int]:
        """The processes below which those of all nodes are."""
        return [process.pid for process in self._processes]

    def add_node(self) -> None:
        """Starts a node, and waits until it has joined."""
        self.nodes.append(self._start(f"--address={self.address}", "--num-cpus=1"))

    def remove_node(self, index: int) -> None:
        """Kills all processes of a node, raylet and workers included, as a machine that goes away does."""
        _kill(self.nodes.pop(index))

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        log = self._folder / f"start-{len(self._processes)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"),
                    "start",
                    "--block",
                    OBJECT_STORE,
                    "--disable-usage-stats",
                    *words,
                ],
                env={**os.environ, **ENVIRONMENT},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        started = wait_for(lambda: "will now block" in log.read_text() or process.poll() is not None, 90.0)
        assert started, log.read_text()
        assert process.poll() is None, log.read_text()
        return process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    below = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    for each in below:
        kill_now(each)
    process.wait()

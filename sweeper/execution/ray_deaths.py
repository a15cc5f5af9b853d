"""Why a worker died or could not start: what Tune wrote down, what Ray says, what the process said last."""

import re
from pathlib import Path
from typing import Any

from sweeper.errors import ClusterError, Problem
from sweeper.execution.ray_cluster import ray

LAST_WORDS_CHARS = 2_000
_RAYS_OWN = re.compile(r":(actor|task|job)_(name|id):")  # marks that Ray writes into a worker's output
MAX_FAILED_STARTS = 3  # of workers, one after another, while nobody is at work


def error_of(trial: Any) -> str:
    """Returns the last error of a Tune trial, as Tune wrote it down, without the colours of a terminal."""
    file = Path(trial.error_file or "absent")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "no reason is known"
    last = text.rpartition("Failure # ")[2]  # Tune appends
    return re.sub(r"\x1b\[[0-9;]*m", "", last).strip()


def reason_in(text: str, last_words: str) -> str:
    """Returns the one line of a traceback, or of what Ray says of a dead actor, that names the reason."""
    died = re.search(r"The actor is dead because (.*)", text)
    if died is None:
        return text.splitlines()[-1].strip()
    if "connection error" not in died[1]:  # e.g. the node has gone, or ran out of memory
        return died[1].strip()
    said = last_words.splitlines()[-1].strip() if last_words else "killed, out of memory, or a crash?"
    return f"its process died ({said})"


def last_words_of(text: str) -> str:
    """Returns what a dead worker of this machine wrote to its standard error last, as far as Ray kept it."""
    pid, node = re.search(r"pid[:=] ?(\d+)", text), ray._private.worker._global_node
    if pid is None or node is None:
        return ""
    files = sorted(Path(node.get_logs_dir_path()).glob(f"worker-*-{pid[1]}.err"))
    texts = [file.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS_CHARS:] for file in files]
    lines = [line for text in texts for line in text.strip().splitlines()]
    return "\n".join(line for line in lines if not _RAYS_OWN.match(line))


def cannot_start(reason: str, sweep: str) -> ClusterError:
    """Returns the error of a run whose workers all fail before they take work."""
    problem = Problem(
        where="workers",
        rule="a worker can start where Ray places it",
        got=f"{MAX_FAILED_STARTS} that failed one after another: {reason}",
        remedy=f"`sweeper logs {sweep}` has the whole text; mend it and run the same command again",
    )
    return ClusterError(problem)

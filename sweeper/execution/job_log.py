"""A verb as one shell line for a Ray Job, and its log read back: what the verb said, and what it printed.

A job has one log for everything: Ray's own lines, standard error, standard output. So standard output is kept
aside until the verb has ended, and stands in the log between two marks. Only of a verb that goes on until it is
left, both stand there as they come.
"""

import base64
import shlex
from collections.abc import Sequence
from typing import Literal

_IMPORTED = "click, pydantic"  # what the first lines of every verb need
NO_PYTHON = 127
"""Exit code of a job whose `python` is not that of an environment with our dependencies."""

Output = Literal["plain", "encoded", "live"]
"""How standard output stands in the log: as text; as base64, which is whole whatever bytes it has; as it comes."""


def entrypoint(words: Sequence[str], mark: str, output: Output) -> str:
    """Returns the shell line that runs a verb.

    Args:
        words: the verb and its arguments.
        mark: a word that occurs nowhere else in the log.
        output: how what the verb prints is put into the log.
    """
    verb = shlex.join(["python", "-P", "-m", "sweeper.cli", *words])  # -P: never the code in Ray's working folder
    kept, show = ("", ":") if output == "live" else (' >"$out"', "base64" if output == "encoded" else "cat")
    return (
        f"python -c 'import {_IMPORTED}' || exit {NO_PYTHON}; "
        f'out=$(mktemp) || exit; printf "%s:begin\\n" {mark}; {verb}{kept}; code=$?; '
        f'printf "%s:output\\n" {mark}; {show} "$out"; printf "%s:end\\n" {mark}; rm -f "$out"; exit $code'
    )


class JobLog:
    """Takes a job's log piece by piece."""

    def __init__(self, mark: str, output: Output) -> None:
        """Takes the same mark and sort of output as `entrypoint`."""
        self._mark, self._encoded = mark, output == "encoded"
        self._rest = ""
        self._part = "ray"

    def feed(self, text: str) -> str:
        """Returns what the verb has said by these characters, whole lines only: on standard error, or live on both."""
        *lines, self._rest = (self._rest + text).split("\n") if self._part != "output" else ["", self._rest + text]
        said = []
        for number, line in enumerate(lines):
            before, found, _ = line.partition(f"{self._mark}:output")
            if self._part == "says" and (before or not found):
                said.append(f"{before}\n")
            if self._part == "says" and found:
                self._part, self._rest = "output", "\n".join([*lines[number + 1 :], self._rest])
                break
            if line == f"{self._mark}:begin":
                self._part = "says"
        return "".join(said)

    def output(self) -> bytes | None:
        """Returns what the verb printed, None where the log ends before it."""
        printed, found, _ = self._rest.rpartition(f"{self._mark}:end")
        if self._part != "output" or not found:
            return None
        return base64.b64decode(printed) if self._encoded else printed.encode()

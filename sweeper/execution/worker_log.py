"""What a worker says in its log: where it runs, what it trains, what went wrong. Free of torch."""

import io
import logging
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Generator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from sweeper.errors import SweeperError
from sweeper.store.logs import LogWriter
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed
from sweeper.training.order import Order

TELL_EVERY_S = 30.0
_LIBRARIES = ("sweeper", "torch", "open_clip_torch", "peft", "ray")


def process_name() -> str:
    """Returns how a worker is called in logs and in `status`: host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def setting() -> str:
    """Returns what this process runs on, in one line."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    torch: Any = sys.modules.get("torch")  # the driver of a cluster never loads it
    has_gpu = torch is not None and torch.cuda.is_available()
    gpu = f"{torch.cuda.get_device_name()} ({os.environ.get('CUDA_VISIBLE_DEVICES', 'all')})" if has_gpu else "no GPU"
    return (
        f"{socket.gethostname()}, process {os.getpid()}, {gpu}, Python {platform.python_version()}, {versions}; "
        f"folder {os.getcwd()}"
    )


def logged(
    events: Generator[Event, None, None], order: Order, log: LogWriter, process: str | None = None
) -> Generator[Event, None, None]:
    """Passes the events of a segment on, and says in the log how it goes; exceptions with their traceback."""

    def say(text: str, **how: str) -> None:
        log.say(text, **{"state_id": order.segment_id, "process": process, **how})  # type: ignore[arg-type]

    last = "nothing"
    began = told = time.monotonic()
    say(f"trains {_work(order)}")
    with closing(events):
        try:
            for event in events:
                if isinstance(event, EpochDone):
                    last = f"epoch {event.epoch}, val_loss {event.val_loss:.4g}"
                    for warning in event.warnings:
                        say(warning, level="warning")
                    if time.monotonic() - told > TELL_EVERY_S:
                        told = time.monotonic()
                        say(last)
                elif isinstance(event, SegmentFailed):
                    failure = event.failure
                    text = f"failed in {failure.place}: {failure.reason}\n{failure.details}".rstrip()
                    say(text, level="error", state_id=failure.state_id)
                elif isinstance(event, ParentMissing):
                    say(f"the state to start from is not in the store: {event.state_id}", level="warning")
                yield event
        except GeneratorExit:
            say(f"leaves it after {last}")
            raise
        except SweeperError as error:
            say(f"cannot train here, after {last}: {error}", level="error")
            raise
        except Exception as error:
            say(f"broke off after {last}\n{''.join(traceback.format_exception(error))}".rstrip(), level="error")
            raise
    say(f"done in {time.monotonic() - began:.1f} s: {last}")


def capture(log: LogWriter) -> None:
    """Copies what libraries warn of and what is written to the standard error into the log of this process."""
    logging.getLogger().addHandler(_Handler(log))
    logging.captureWarnings(True)
    sys.stderr = _Copied(sys.stderr, log)


class _Handler(logging.Handler):
    """Says in a log what libraries log."""

    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        if record.name != "ray.tune.trainable.trainable":  # that a set-up takes its time is known
            self._log.say(f"{record.name}: {record.getMessage()}", level="warning")


class _Copied(io.TextIOBase):
    """A text stream whose whole lines go into a log, too."""

    def __init__(self, stream: TextIO, log: LogWriter) -> None:
        self._stream, self._log = stream, log
        self._begun = ""

    def write(self, text: str) -> int:
        """Writes through."""
        *lines, self._begun = (self._begun + text).split("\n")
        said = "\n".join(line.rpartition("\r")[2] for line in lines if line.strip())
        if said:
            self._log.say(said, level="warning")
        return self._stream.write(text)

    def flush(self) -> None:
        """Flushes the stream behind."""
        self._stream.flush()

    def fileno(self) -> int:
        """Returns the file behind."""
        return self._stream.fileno()


def _work(order: Order) -> str:
    first, last, trials = order.first_epoch, order.last_epoch, list(order.stops)
    epochs = f"epoch {last}" if first == last else f"epochs {first} to {last}"
    more = f" and {len(trials) - 3} more" if len(trials) > 3 else ""
    return f"{epochs} of trial{'s' * (len(trials) > 1)} {', '.join(trial[:8] for trial in trials[:3])}{more}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"

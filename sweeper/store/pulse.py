"""The pulse of a run: who trains what just now, how fast, and how much is left. The driver puts a new one every few
seconds and drops the one before, so that `status` can tell from every machine that sees the store.
"""

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass

from sweeper.errors import StoreError
from sweeper.store.lease import latest
from sweeper.store.objects import ObjectStore

BEAT_EVERY_S = 5.0
_RATE_OVER_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AtWork:
    """What one worker does.

    Attributes:
        process: host and process id.
        segment_id: what it trains.
        epoch: the last epoch that it handed in; None before the first.
        first_epoch: of the segment.
        last_epoch: of the segment, at most.
        trial_ids: trials that pass through the segment.
    """

    process: str
    segment_id: str
    epoch: int | None
    first_epoch: int
    last_epoch: int
    trial_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """How a run goes on.

    Attributes:
        trained: epochs that it has trained.
        pending: epochs that may still come.
        epochs_per_second: over the last minute; None before there is anything to tell.
        workers: what each one does that is at work.
    """

    trained: int
    pending: int
    epochs_per_second: float | None
    workers: tuple[AtWork, ...]

    @property
    def seconds_left(self) -> float | None:
        """How long it goes on at most, at this rate."""
        return self.pending / self.epochs_per_second if self.epochs_per_second else None


class PulseWriter:
    """Puts the pulses of one run. A store that cannot be written costs the pulse, never the training."""

    def __init__(self, store: ObjectStore, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._number = 0
        self._beat_at = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def beat(self, trained: int, pending: int, workers: tuple[AtWork, ...]) -> None:
        """Puts a pulse, if it is time for one."""
        now = time.monotonic()
        if now - self._beat_at < BEAT_EVERY_S:
            return
        self._beat_at = now
        if trained == 0:  # the time that workers take to start says nothing of their speed
            self._seen.clear()
        self._seen.append((now, trained))
        while now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        seconds, epochs = now - self._seen[0][0], trained - self._seen[0][1]
        rate = epochs / seconds if seconds and epochs else None
        pulse = Pulse(trained=trained, pending=pending, epochs_per_second=rate, workers=workers)
        with suppress(StoreError):
            self._store.put("control", _key(self._run_id, self._number + 1), json.dumps(asdict(pulse)).encode())
            self._number += 1
            self._drop_last(self._number - 1)

    def close(self) -> None:
        """Removes the last pulse."""
        with suppress(StoreError):
            self._drop_last(self._number)

    def _drop_last(self, number: int) -> None:
        if number > 0:
            self._store.drop("control", _key(self._run_id, number))


def read_pulse(store: ObjectStore, sweep: str) -> Pulse | None:
    """Returns the pulse of a sweep that is run now; None when nobody runs it, or has said nothing yet."""
    _, holder = latest(store)
    if holder is None or holder.is_gone() or holder.sweep != sweep:
        return None
    keys = [key for key in store.keys("control") if key.startswith(f"{holder.run_id}.pulse.")]
    data = store.get("control", keys[-1]) if keys else None
    if data is None:
        return None
    fields = json.loads(data)
    workers = tuple(AtWork(**{**each, "trial_ids": tuple(each["trial_ids"])}) for each in fields["workers"])
    return Pulse(**{**fields, "workers": workers})


def _key(run_id: str, number: int) -> str:
    return f"{run_id}.pulse.{number:08d}"

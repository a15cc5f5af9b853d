"""Cards: what must be known of each trial to say how it stands, kept with a revision.

They are made of the trials and of nothing else; who reads them needs neither to check ten thousand configurations
nor to hash what they say.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from sweeper.plan.identity import state_id
from sweeper.plan.stopping import Stop


@dataclass(frozen=True, kw_only=True)
class Card:
    """One trial or baseline of a sweep that is no search.

    Attributes:
        trial_id: its id.
        role: `trial`, `control` or `baseline`.
        name: a short name for people.
        baseline_id: the trial it is compared with.
        stop: when it ends.
        root: id of the untrained model.
        stretches: anchor, regime, first and last epoch of each part of its way.
    """

    trial_id: str
    role: str
    name: str
    baseline_id: str | None
    stop: Stop
    root: str
    stretches: tuple[tuple[str, str, int, int], ...]

    @property
    def own_stop(self) -> Stop:
        """When it ends: nothing cuts it."""
        return self.stop

    @cached_property
    def state_ids(self) -> tuple[str, ...]:
        """All ids along its way, indexed by epoch."""
        ids = [self.root]
        for anchor, regime, first, last in self.stretches:
            ids.extend(state_id(anchor, regime, count) for count in range(1, last - first + 2))
        return tuple(ids)

    def fields(self) -> dict[str, Any]:
        """Returns the card as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the card that `fields` wrote."""
        return cls(**{**fields, "stop": Stop.from_json(fields["stop"]), "stretches": tuple(fields["stretches"])})

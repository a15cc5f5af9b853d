"""Which files belong to a run, each with the tag that says that it is there."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from sweeper.plan.identity import content_id
from sweeper.plan.trials import Trial
from sweeper.reporting.figures import png
from sweeper.reporting.maps import deviation_info, draw_deviation, draw_recovery, recovery_info
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.tracking import labels
from sweeper.training.adapters import adapter_file

MAX_ADAPTER_BYTES = 10_000_000
ADAPTER = "best_adapter.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Files that are stored together.

    Attributes:
        tag: name of the tag that is set once they are stored.
        digest: its value; another one means other files.
        files: makes them, by their paths among the artifacts of a run.
    """

    tag: str
    digest: str
    files: Callable[[], Mapping[str, bytes]]


def texts(named: Mapping[str, str]) -> Bundle:
    """Returns texts."""
    return Bundle(
        tag=labels.ARTIFACTS,
        digest=content_id("artifacts", dict(named))[:16],
        files=lambda: {name: text.encode() for name, text in named.items()},
    )


def best_state(store: ObjectStore, trial: Trial, epoch: int | None, tags: Mapping[str, str]) -> Bundle | None:
    """Returns the adapter of a trial's best state, no file where it is too large.

    Args:
        store: where the state may be; it is read only if need be.
        trial: the trial.
        epoch: at which its own validation loss is lowest, None where that is not settled.
        tags: of its run.

    Returns:
        None when the tags say that it is stored, and when the state was dropped.
    """
    if epoch is None:
        return None
    state_id = trial.state_ids[epoch]
    is_stored = tags.get(labels.BEST_STATE) == labels.address_of(state_id) and labels.BEST_BITS in tags
    if is_stored or (state := store.get("states", state_id)) is None:
        return None
    about = {"state_id": state_id, "trial_id": trial.trial_id, "epoch": str(epoch)}
    adapter = adapter_file(state, about)
    return Bundle(
        tag=labels.BEST_BITS,
        digest=hashlib.sha256(state).hexdigest(),
        files=lambda: {ADAPTER: adapter} if len(adapter) < MAX_ADAPTER_BYTES else {},
    )


def heat_maps(view: SweepView) -> Bundle | None:
    """Returns the maps of start x length, drawn only if what they show has changed; None without such a grid."""
    recovery, recovery_rsa, deviation = recovery_info(view), recovery_info(view, "rsa"), deviation_info(view)
    if recovery is None or recovery_rsa is None or deviation is None:
        return None
    return Bundle(
        tag=labels.HEAT_MAPS,
        digest=content_id("heat maps", [asdict(info) for info in (recovery, recovery_rsa, deviation)])[:16],
        files=lambda: {
            "heat_maps/recovery.png": png(draw_recovery(recovery)),
            "heat_maps/recovery_rsa.png": png(draw_recovery(recovery_rsa, "rsa")),
            "heat_maps/deviation.png": png(draw_deviation(deviation)),
        },
    )

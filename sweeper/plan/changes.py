"""What changed since an earlier revision of a sweep, in words: why its epochs are not reused."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sweeper.plan.lineage import ground_of
from sweeper.plan.trials import Trial

_SPEC_NAMES = {
    "batch_size": "training.batch_size",
    "order.rule": "training.order",
    "order.seed": "seeds.order",
    "preprocessing": "data.preprocessing",
    "split.rule": "data.split",
    "split.seed": "seeds.split",
    "split.train_fraction": "data.train_fraction",
    "semantics": "what sweeper computes (version of its numbers)",
    "model.weights": "the weights of the network",
    "model.prompts": "the text prompts",
}
_CHOICES = ("manifest", "folds", "fold", "train_size", "relabel")
_MOST_NAMED = 6
_DIGEST_CHARS = 16  # longer values are digests, which tell people nothing


def why_not_reused(
    before: Sequence[Trial], number: int, created_at: float, now: Sequence[Trial], recorded: Collection[str]
) -> str | None:
    """Says what of an earlier revision has changed, and how many of its epochs are therefore of no use.

    Args:
        before: trials of the earlier revision.
        number: of that revision.
        created_at: Unix time in seconds.
        now: trials of the spec as it is.
        recorded: states that have records.

    Returns:
        One line; None where nothing changed that makes an epoch useless, or nothing had been measured.
    """
    old = {state for trial in before for state in trial.state_ids[1:] if state in recorded}
    kept = old.intersection(state for trial in now for state in trial.state_ids)
    changed = list(_changed(before, now)) if len(kept) < len(old) else []
    if not changed:
        return None
    named = ", ".join(changed[:_MOST_NAMED]) + (", ..." if len(changed) > _MOST_NAMED else "")
    date = time.strftime("%Y-%m-%d", time.localtime(created_at))
    reused = f"{len(kept)} of its {len(old)} epochs are" if kept else f"none of its {len(old)} epochs is"
    return f"changed since revision {number} ({date}): {named}; {reused} reused"


def _changed(before: Sequence[Trial], now: Sequence[Trial]) -> Iterator[str]:
    """Yields each difference once, between trials that are swept alike; with other axes, between the first ones."""
    by_place = {_place(trial): trial for trial in before}
    pairs = [(by_place[place], trial) for trial in now if (place := _place(trial)) in by_place]
    if not pairs:
        swept = {field for trial in (before[0], now[0]) for field, _ in trial.swept}
        yield from (text for field, text in _differences(before[0], now[0]) if field not in swept)
        return
    found: dict[str, set[str]] = {}
    for old, new in pairs:
        for field, text in _differences(old, new):
            found.setdefault(field, set()).add(text)
    yield from (texts.pop() if len(texts) == 1 else field for field, texts in found.items())


def _place(trial: Trial) -> tuple[str, str]:
    return trial.role, repr(trial.swept)


def _differences(old: Trial, new: Trial) -> Iterator[tuple[str, str]]:
    """Yields field and text of everything that makes the states of two trials differ."""
    if old.inputs.data != new.inputs.data:
        yield from _data_differences(old, new)
    first, second = (dict(_leaves(ground_of(trial.config, trial.inputs).regime.fields)) for trial in (old, new))
    first["seeds.init"], second["seeds.init"] = old.config.seeds.init, new.config.seeds.init
    first["perturbation"], second["perturbation"] = _windows(old), _windows(new)
    for name in dict.fromkeys((*first, *second)):
        if name != "data" and first.get(name) != second.get(name):
            field = _SPEC_NAMES.get(name, f"training.{name}" if name.startswith("optimizer.") else name)
            yield field, _with_values(field, first.get(name), second.get(name))


def _data_differences(old: Trial, new: Trial) -> Iterator[tuple[str, str]]:
    """Yields what of the data differs: what the spec chooses, else the bytes of files."""
    asked = old.config.data.model_dump(), new.config.data.model_dump()
    chosen = [name for name in _CHOICES if asked[0][name] != asked[1][name]]
    yield from ((f"data.{name}", _with_values(f"data.{name}", asked[0][name], asked[1][name])) for name in chosen)
    if set(chosen) - {"manifest"}:
        return
    then, files = dict(old.inputs.files), dict(new.inputs.files)
    differing = [name for name in files if then.get(name, files[name]) != files[name]]
    for name in differing or ["training images or targets"]:
        yield name, f"the {name} (other bytes)"


def _windows(trial: Trial) -> list[Mapping[str, Any]]:
    return [window.regime(trial.config.seeds.noise) for window in trial.config.perturbation]


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _with_values(field: str, old: Any, new: Any) -> str:
    shown = [str(value) for value in (old, new)]
    is_plain = all(isinstance(value, str | int | float | bool | None) for value in (old, new))
    if not is_plain or any(_is_digest(text) for text in shown):
        return field
    return f"{field} {shown[0]} -> {shown[1]}"


def _is_digest(text: str) -> bool:
    return len(text) > _DIGEST_CHARS and all(char in "0123456789abcdef" for char in text)

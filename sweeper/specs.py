"""A spec as a verb names it: a file, or a sweep of the store."""

from dataclasses import dataclass
from pathlib import Path

from sweeper.spec.load import load_spec
from sweeper.spec.schema import SweepSpec
from sweeper.spec.stand_in import STAND_IN_SUFFIX
from sweeper.store.objects import LocalStore
from sweeper.store.sweeps import latest_revision


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSpec:
    """A spec with the text that it was read from."""

    spec: SweepSpec
    source: str


def find_spec(name: Path, store: Path, *, stand_in: bool = False) -> NamedSpec:
    """Returns the spec in a file, else the newest revision of the sweep of that name in a store.

    Raises:
        SpecError: there is neither, or the file breaks a rule.
    """
    if not name.exists() and (store / "store.json").is_file():
        sweep = f"{name}{STAND_IN_SUFFIX}" if stand_in else str(name)
        revision = latest_revision(LocalStore(store.absolute(), create=False), sweep)
        if revision is not None:
            return NamedSpec(spec=revision.spec, source=revision.source)
    spec = load_spec(name, stand_in=stand_in)
    return NamedSpec(spec=spec, source=name.read_text(encoding="utf-8"))

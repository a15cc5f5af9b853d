"""A sweep engine for CLIP-HBA models: from one spec to compared runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.reporting.load import load_sweep

__all__ = ["load_sweep"]


def __getattr__(name: str) -> Any:
    """Imports what notebooks use when it is asked for, so that `import sweeper` stays light."""
    if name == "load_sweep":
        from sweeper.reporting.load import load_sweep

        return load_sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

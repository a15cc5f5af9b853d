"""Names of sweeps that are made of others."""

STAND_IN_SUFFIX = "--stand-in"
MAX_NAME = 100


def stand_in_name(name: str) -> str:
    """Returns the name of the sweep that `--stand-in` makes of another one; of such a one, its own."""
    return name if name.endswith(STAND_IN_SUFFIX) else name[: MAX_NAME - len(STAND_IN_SUFFIX)] + STAND_IN_SUFFIX

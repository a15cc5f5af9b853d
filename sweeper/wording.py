"""Words that depend on a number."""


def counted(number: int, noun: str) -> str:
    """Returns a number of things: `1 epoch`, `2 epochs`."""
    return f"{number} {noun}{'s' * (number != 1)}"

"""Stateless random streams: every random number is a function of (seed, purpose, epoch, step).

Nothing is stored and no global generator is read, so a resumed, forked or re-ordered run draws what the
undisturbed one draws.
"""

import hashlib

import numpy as np


def stream(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Returns the generator of one purpose at one place of training.

    Args:
        seed: the seed that the spec names for this purpose.
        purpose: what the numbers are for, e.g. `"split"`; different purposes never share numbers.
        epoch: 1-based epoch, 0 before training.
        step: 0-based batch within the epoch.

    Returns:
        A counter-based generator (Philox4x64), keyed by the SHA-256 of the four arguments.
    """
    name = f"{seed}/{purpose}/{epoch}/{step}".encode()
    key = np.frombuffer(hashlib.sha256(name).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))

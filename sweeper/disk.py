"""What a file system refuses, in words that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import Problem, StoreError

_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): ("the disk is full, or your quota", "Free some space and run the same command again"),
    (errno.EFBIG,): ("a file may not grow that large", "Raise the limit (`ulimit -f`) and run the same command again"),
    (errno.EROFS,): ("it may only be read", "Give a folder with {option} that you may write"),
    (errno.EACCES,): (
        "you may not read or write it",
        "Give a folder with {option} that you may read and write",
    ),
    (errno.EPERM, errno.EOPNOTSUPP): (
        "its file system refuses hard links, or you may not write",
        "Give a folder on another file system with {option}",
    ),
}


@contextmanager
def explained(folder: Path, option: str = "--store") -> Iterator[None]:
    """Turns what the file system refuses into an error that says what to do.

    Args:
        folder: what is used.
        option: of the command line, which names another one.

    Raises:
        StoreError: instead of what the file system raises.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # some libraries' own, e.g. of a picture that does not decode
            raise
        rule, remedy = f"the file system failed ({error.strerror})", "Run the same command again; nothing is lost"
        for numbers, found in _REMEDIES.items():
            if error.errno in numbers:
                rule, remedy = found
        raise StoreError(Problem(where=str(folder), rule=rule, remedy=remedy.format(option=option))) from error

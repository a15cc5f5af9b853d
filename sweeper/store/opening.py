"""A store by its address: a folder, or `s3://BUCKET/PREFIX`."""

import os
import re
from pathlib import Path

from sweeper.errors import Problem, StoreError
from sweeper.store.local import LocalStore
from sweeper.store.objects import AbsentStore, ObjectStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def open_store(address: str | Path, *, create: bool = True, renew: bool = False) -> ObjectStore:
    """Opens a store, and makes it where there is none.

    Args:
        address: a folder, or `s3://BUCKET/PREFIX`.
        create: whether an absent store is made.
        renew: whether a store that has lost its marker (`store.json`) gets another one, with a new id.

    Raises:
        AbsentStore: there is none, and none may be made.
        StoreError: stores of this sort are not known, or this one cannot be used, or it has lost its marker.
    """
    text = os.fspath(address)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return LocalStore(Path(text).absolute(), create=create, renew=renew)
    if text.startswith("s3://"):
        from sweeper.store.s3 import S3Store

        return S3Store(text, create=create, renew=renew)
    remedy = "Give a folder that all machines see, or s3://BUCKET/PREFIX (a server of your own: AWS_ENDPOINT_URL)"
    raise StoreError(Problem(where="--store", rule="a store is a folder or lies on S3", got=text, remedy=remedy))


def find_store(address: str | Path) -> ObjectStore | None:
    """Returns the store at an address, None where there is none; see `open_store`."""
    try:
        return open_store(address, create=False)
    except AbsentStore:
        return None

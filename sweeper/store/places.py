"""Folders of one machine: where the index, the view and the cached features of a shared store lie.

SQLite and file locks cannot be trusted on network file systems, and clusters have their home folders there.
"""

import os
import tempfile
from pathlib import Path

import psutil

from sweeper.errors import Problem, StoreError
from sweeper.store.objects import ObjectStore

_NETWORK = frozenset(
    (
        *(
            "nfs",
            "nfs3",
            "nfs4",
            "lustre",
            "gpfs",
            "beegfs",
            "ceph",
            "glusterfs",
            "panfs",
            "wekafs",
            "pvfs2",
            "orangefs",
        ),
        *("cifs", "smb2", "smb3", "smbfs", "afs", "auristorfs", "davfs", "9p", "virtiofs", "vboxsf", "gfs2", "ocfs2"),
        *("sshfs", "s3fs", "gcsfuse", "rclone", "goofys", "mountpoint-s3", "juicefs", "mfs", "davfs2", "blobfuse2"),
    )
)


def is_on_network(path: Path) -> bool:
    """Tells whether a path, existing or not, lies on a network file system, by the type of what is mounted there."""
    real = path.resolve()
    mounts = {Path(found.mountpoint): found.fstype for found in psutil.disk_partitions(all=True)}
    fstype = next((mounts[folder] for folder in (real, *real.parents) if folder in mounts), "")
    return fstype.lower().removeprefix("fuse.") in _NETWORK


def state_folder(store_id: str) -> Path:
    """Returns the folder of this machine and user that belongs to a shared store."""
    return _of_user("SWEEPER_STATE", "XDG_STATE_HOME", ".local/state") / store_id


def writable_folder(store: ObjectStore) -> Path:
    """Returns where locks, marks and the default tracking database lie: of a store that may only be read, beside it.

    Who syncs a store that another user writes then holds no common lock with them.
    """
    folder = store.local_folder
    return folder if os.access(folder, os.W_OK) else state_folder(store.store_id)


def features_folder(store: ObjectStore) -> Path:
    """Returns where a store's workers on this machine keep frozen features.

    All shared stores have one folder together: its entries are named by their content.
    """
    if not store.is_shared:
        return store.local_folder / "features"
    return _of_user("SWEEPER_CACHE", "XDG_CACHE_HOME", ".cache") / "features"


def _of_user(variable: str, base: str, default: str) -> Path:
    """Returns what the user chose, else the usual folder, else, where that is on a network, one that a node has."""
    if chosen := os.environ.get(variable):
        return Path(chosen).absolute()
    usual = Path(os.environ.get(base) or Path.home() / default) / "sweeper"
    if not is_on_network(usual):
        return usual
    return _private(Path(tempfile.gettempdir()) / f"sweeper-{os.getuid()}") / default


def _private(folder: Path) -> Path:
    """Makes a folder in a place where everybody may write.

    Raises:
        StoreError: somebody else made one of that name.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        remedy = "Name folders on a disk of this machine with SWEEPER_STATE and SWEEPER_CACHE"
        raise StoreError(Problem(where=str(folder), rule="the folder is your own", remedy=remedy))
    return folder

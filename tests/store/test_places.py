"""What belongs to one machine: beside a store on a local disk, else in folders of the user."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sweeper.errors import StoreError
from sweeper.store import places
from sweeper.store.ledger import ledger_path, open_ledger
from sweeper.store.local import LocalStore
from sweeper.store.places import features_folder, is_on_network, state_folder

Mounted = Callable[..., None]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Returns what makes folders look like mounts of some type."""

    def mount(**types: str | Path) -> None:
        found = [SimpleNamespace(mountpoint="/", fstype="ext4")]
        found += [SimpleNamespace(mountpoint=str(path), fstype=name) for name, path in types.items()]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)

    for variable in ("SWEEPER_STATE", "SWEEPER_CACHE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    mount()
    return mount


@pytest.mark.parametrize("fstype", ["nfs4", "lustre", "gpfs", "cifs", "fuse.sshfs", "9p", "CIFS"])
def test_a_network_is_known_by_the_type_of_the_longest_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str
) -> None:
    mounts = [("/", "ext4"), (tmp_path / "net", fstype), (tmp_path / "net" / "disk", "xfs")]
    found = [SimpleNamespace(mountpoint=str(path), fstype=name) for path, name in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    assert is_on_network(tmp_path / "net" / "not there yet")
    assert not is_on_network(tmp_path / "net" / "disk" / "x")
    assert not is_on_network(tmp_path / "network")
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    assert is_on_network(tmp_path / "link")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "zfs", "overlay", "tmpfs", "apfs", "fuse.fuse-overlayfs", "fuseblk"])
def test_a_disk_is_no_network(tmp_path: Path, mounted: Mounted, fstype: str) -> None:
    mounted(**{fstype: tmp_path})
    assert not is_on_network(tmp_path)


def test_a_store_on_a_disk_keeps_everything_together(tmp_path: Path, mounted: Mounted) -> None:
    store = LocalStore(tmp_path / "store")
    assert not store.is_shared
    assert ledger_path(store) == tmp_path / "store" / "ledger.sqlite"
    assert features_folder(store) == tmp_path / "store" / "features"


def test_a_store_on_a_network_keeps_its_objects_only(
    tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(nfs4=tmp_path / "net")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store = LocalStore(tmp_path / "net" / "store")
    assert store.is_shared
    assert store.local_folder == tmp_path / "home" / ".local" / "state" / "sweeper" / store.store_id
    assert features_folder(store) == tmp_path / "home" / ".cache" / "sweeper" / "features"
    store.put("sweeps", "x.000001", b"{}")
    open_ledger(ledger_path(store), store).close()
    assert {path.name for path in store.root.iterdir()} == {"store.json", "sweeps", "tmp"}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert store.local_folder == tmp_path / "xdg" / "sweeper" / store.store_id
    monkeypatch.setenv("SWEEPER_STATE", str(tmp_path / "chosen"))
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "fast"))
    assert store.local_folder == tmp_path / "chosen" / store.store_id
    assert features_folder(store) == tmp_path / "fast" / "features"


def test_a_home_on_a_network_is_not_used(tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(nfs4=tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"sweeper-{os.getuid()}"
    assert own in state_folder("abc").parents
    state_folder("abc")
    assert own.stat().st_mode & 0o077 == 0
    stranger = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    own.rename(tmp_path / f"sweeper-{os.getuid()}")
    with pytest.raises(StoreError, match="SWEEPER_STATE"):
        state_folder("abc")

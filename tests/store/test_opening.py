"""A store is named by an address; what is not known is refused with the way out."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper.cli import main
from sweeper.errors import StoreError
from sweeper.store.objects import AbsentStore
from sweeper.store.opening import find_store, open_store

REFUSED = ["gs://bucket/store", "az://container/x", "http://host/x", "memory://x", "file:///tmp/x", "s3:/bucket"]


@pytest.mark.parametrize("address", REFUSED)
def test_other_schemes_are_refused_with_the_way_out(address: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with pytest.raises(StoreError, match=r"a folder or .*S3.*s3://BUCKET/PREFIX"):
            open_store(address, create=create)
    shown = CliRunner().invoke(main, ["status", "grid", "--store", address])
    assert (shown.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert address in shown.output


def test_a_relative_folder_is_the_same_store_from_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("results")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_store(store.address, create=False).store_id == store.store_id
    assert store.address == str(tmp_path / "results")


def test_an_absent_store_is_none_or_an_error(tmp_path: Path) -> None:
    assert find_store(tmp_path / "absent") is None
    with pytest.raises(AbsentStore, match=r"is no store.*--store"):
        open_store(tmp_path / "absent", create=False)
    assert list(tmp_path.iterdir()) == []

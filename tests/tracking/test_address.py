from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.tracking.address import Address, checked_uri, prepare_environment

from .conftest import Sweep


def at(uri: str, folder: Path = Path("/locks")) -> Address:
    return Address(uri=uri, experiment="small", store_id="store0", folder=folder)


def test_passwords_are_not_shown() -> None:
    assert at("postgresql://lab:secret@host:5432/db").shown == "postgresql://lab:***@host:5432/db"
    assert at("sqlite:////a/b.db").shown == "sqlite:////a/b.db"


@pytest.mark.parametrize(
    "uri",
    [
        "http://h:5000",
        "https://me:secret@h",
        "sqlite:////a/b.db",
        "sqlite:///b.db",
        "postgresql+psycopg2://h/db",
        "databricks",
        "databricks://profile",
    ],
)
def test_servers_and_databases_are_tracking_uris(uri: str) -> None:
    assert checked_uri(uri, "--tracking-uri") == uri


@pytest.mark.parametrize("uri", ["bogus://h", "sqllite:///b.db", "./mlruns", "http", "sqlite://", "sqlite:///:memory:"])
def test_what_is_none_is_a_mistake_of_the_user(uri: str) -> None:
    with pytest.raises(SpecError, match=r"--tracking-uri: a tracking URI names a server or a database\. Got .*sqlite:"):
        checked_uri(uri, "--tracking-uri")


def test_artifacts_lie_beside_an_sqlite_file_and_where_a_server_wants_them() -> None:
    assert at("sqlite:////a/b.db").artifact_location == "file:///a/b-artifacts"
    assert at("postgresql+psycopg2://h/db").artifact_location == "file:///locks/mlflow-artifacts"
    assert at("http://h:5000").artifact_location is None


def test_a_mark_holds_until_the_sweep_changes(sweep: Sweep, tmp_path: Path) -> None:
    address = at("http://h:5000", tmp_path)
    assert not address.is_marked(sweep.finish().view())
    address.mark(sweep.view())
    assert address.is_marked(sweep.view())
    assert not at("http://other:5000", tmp_path).is_marked(sweep.view())
    assert not address.is_marked(sweep.changed().view())


def test_an_open_sweep_is_never_left_alone(sweep: Sweep, tmp_path: Path) -> None:
    address = at("http://h:5000", tmp_path)
    address.mark(sweep.view())
    assert not address.is_marked(sweep.view())


def test_another_database_is_not_taken_for_the_one_that_was_written(sweep: Sweep, tmp_path: Path) -> None:
    database, view = tmp_path / "mlflow.db", sweep.finish().view()
    address = at(f"sqlite:///{database}", tmp_path)
    database.touch()
    address.mark(view)
    assert address.is_marked(view)
    (tmp_path / "new.db").touch()
    (tmp_path / "new.db").replace(database)
    assert not address.is_marked(view)
    database.unlink()
    assert not address.is_marked(view)


def test_the_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    prepare_environment(1)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"

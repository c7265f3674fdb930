import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.registry.client import connect, exists, experiment, registry_uri, tracking_uri


def test_a_server_that_does_not_answer_is_told_without_its_password(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match=r"http://127.0.0.1:1 .*MLFLOW_TRACKING_URI") as caught:
        connect(Workspace(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nonsense://me:secret@host", "postgresql://me:secret@host/db"])
def test_an_address_that_cannot_be_opened_is_a_mistake_in_its_variable(
    tmp_path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: .*host") as caught:
        connect(Workspace(tmp_path))
    assert "secret" not in str(caught.value)


def test_a_database_that_is_away_is_no_mistake_and_is_asked_again(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (keyslice[postgresql])")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # not for 100 seconds
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:1/db")
    told = r"^the database at postgresql://127.0.0.1:1/db does not answer; MLFLOW_TRACKING_URI"
    with pytest.raises(RunError, match=told):
        connect(Workspace(tmp_path))


def test_the_database_of_another_mlflow_is_told_with_the_command_that_migrates_it(
    workspace: Workspace,
) -> None:
    file = workspace.state / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '728d730b5ebd'")
    told = f"back it up, then run .*mlflow db upgrade sqlite:///{file}"
    with pytest.raises(UserError, match=told):
        connect(workspace)


def test_a_damaged_database_is_restored_from_the_backup(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path)
    workspace.state.mkdir()
    (workspace.state / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(UserError, match="restore it from a backup of state/"):
        connect(workspace)


def test_a_relative_database_lies_in_the_workspace_wherever_the_command_is_run(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    (workspace.root / "notes").mkdir(parents=True)
    monkeypatch.chdir(workspace.root / "notes")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///own.db?timeout=20")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///models.db")
    assert tracking_uri(workspace) == f"sqlite:///{workspace.root}/own.db?timeout=20"
    assert registry_uri(workspace) == f"sqlite:///{workspace.root}/models.db"
    assert not exists(workspace)
    (workspace.root / "own.db").touch()
    assert exists(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    assert tracking_uri(workspace) == f"sqlite:///{tmp_path}/elsewhere.db"


@pytest.mark.parametrize(
    ("uri", "inside"),
    [
        (None, True),
        ("postgresql://host/db", True),
        ("mysql+pymysql://host/db", True),
        ("https://host", False),
    ],
)
def test_artifacts_lie_in_state_unless_a_server_says_where(
    tmp_path, monkeypatch: pytest.MonkeyPatch, uri: str | None, inside: bool
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    made: dict[str, Any] = {}
    client = SimpleNamespace(
        get_experiment_by_name=lambda _: None,
        create_experiment=lambda name, artifact_location: made.update({name: artifact_location}),
    )
    experiment(client, Workspace(tmp_path), "scans")  # pyright: ignore[reportArgumentType]
    place = (tmp_path / "state" / "artifacts" / "scans").as_uri()
    assert made["scans"] == (place if inside else None)

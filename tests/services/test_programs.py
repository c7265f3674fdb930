"""What `keyslice up` starts, and with what."""

from pathlib import Path

import pytest
import yaml

from keyslice.config import Params, Workspace, load
from keyslice.registry import pages
from keyslice.services.account import VARIABLE
from keyslice.services.programs import Program, programs

SECRET = "correct horse battery"


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


def _params(folder: Path, **service: object) -> Params:
    settings = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(settings | {"service": service}))
    return load(file)


def _programs(folder: Path, **service: object) -> tuple[Program, Program, Program]:
    prefect, mlflow, serving = programs(Workspace(folder), _params(folder, **service))
    return prefect, mlflow, serving


def test_the_serving_process_is_told_where_the_servers_are(tmp_path: Path) -> None:
    prefect, mlflow, serving = _programs(tmp_path, prefect_port=4321, mlflow_port=5432)
    assert serving.variables["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert serving.variables[pages.VARIABLE] == mlflow.page == "http://127.0.0.1:5432"
    assert prefect.health == "http://127.0.0.1:4321/api/health"


def test_servers_that_are_named_are_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@mlflow.example")
    prefect, mlflow, serving = _programs(tmp_path)
    assert prefect.command is None
    assert mlflow.command is None
    assert serving.command is not None
    assert serving.variables["PREFECT_API_URL"] == "http://prefect.example:4200/api"
    assert (prefect.page, mlflow.page) == ("http://prefect.example:4200", "https://mlflow.example")


def test_a_database_has_a_server_before_it_and_its_password_is_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"postgresql://ann:{SECRET.replace(' ', '-')}@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    _, mlflow, _ = _programs(tmp_path)
    assert mlflow.command is not None
    assert "ann" not in " ".join(mlflow.command)
    assert mlflow.variables["MLFLOW_BACKEND_STORE_URI"] == address


def test_opened_to_the_network_every_server_asks_for_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "account"
    file.write_text(f"ann:{SECRET}")
    file.chmod(0o600)
    home = tmp_path / "workspace"
    home.mkdir()
    monkeypatch.setenv(VARIABLE, str(file))
    prefect, mlflow, serving = _programs(home, host="0.0.0.0")
    assert prefect.variables["PREFECT_SERVER_API_AUTH_STRING"] == f"ann:{SECRET}"
    assert serving.variables["PREFECT_API_AUTH_STRING"] == f"ann:{SECRET}"
    assert mlflow.variables["MLFLOW_AUTH_ADMIN_PASSWORD"] == SECRET
    assert mlflow.command is not None
    assert mlflow.command[-2:] == ("--app-name", "basic-auth")
    assert serving.variables["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    for one in (prefect, mlflow, serving):
        assert SECRET not in " ".join(one.command or ())
        assert SECRET not in repr(one)
    for written in (home / "state" / "service").iterdir():
        assert SECRET not in written.read_text()
        assert written.stat().st_mode & 0o077 == 0


def test_mlflow_takes_a_password_that_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    file, home = tmp_path / "account", tmp_path / "workspace"
    monkeypatch.setenv(VARIABLE, str(file))
    users = home / "state" / "mlflow-users.db"
    users.parent.mkdir(parents=True)
    store = SqlAlchemyStore()
    store.init_db(f"sqlite:///{users}")
    store.create_user("ann", SECRET, is_admin=True)  # as the server did at its first start
    for known in (f"{SECRET} too", SECRET):
        file.write_text(f"ann:{known}")
        file.chmod(0o600)
        _programs(home, host="0.0.0.0")
        assert store.authenticate_user("ann", known)
    assert not store.authenticate_user("ann", f"{SECRET} too")
    assert [one.username for one in store.list_users() if one.is_admin] == ["ann"]

"""Who may open servers that other machines can reach."""

from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.services.account import VARIABLE, account

SECRET = "correct horse battery"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace")


def _file(folder: Path, text: str, mode: int = 0o600) -> str:
    file = folder / "account"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_alone_needs_none(workspace: Workspace, host: str) -> None:
    assert account(workspace, host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "keyslice.hospital.example"])
def test_the_network_demands_one(workspace: Workspace, host: str) -> None:
    with pytest.raises(UserError, match=VARIABLE):
        account(workspace, host)


def test_it_is_used_on_this_machine_too_where_it_is_set(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, _file(tmp_path, f"ann:{SECRET}\n"))
    found = account(workspace, "127.0.0.1")
    assert found is not None
    assert (found.user, found.password, found.line) == ("ann", SECRET, f"ann:{SECRET}")
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (f"ann:{SECRET}", 0o640, "can be read by others"),
        ("ann", 0o600, "holds no account"),
        ("ann:short", 0o600, "holds no account"),
        (f":{SECRET}", 0o600, "holds no account"),
        (f"ann:{SECRET}\nbob:{SECRET}", 0o600, "holds no account"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_without_its_password(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    mode: int,
    told: str,
) -> None:
    monkeypatch.setenv(VARIABLE, _file(tmp_path, text, mode))
    with pytest.raises(UserError, match=told) as refused:
        account(workspace, "127.0.0.1")
    assert SECRET not in str(refused.value)


def test_no_commit_can_take_it_along(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, _file(workspace.root, f"ann:{SECRET}"))
    with pytest.raises(UserError, match="lies inside the workspace"):
        account(workspace, "127.0.0.1")


def test_one_that_is_not_there_is_told(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match="cannot read"):
        account(workspace, "127.0.0.1")

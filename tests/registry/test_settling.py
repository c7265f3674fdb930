"""What each command does for the ledger besides its own work."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from keyslice.config import Params, Workspace
from keyslice.config.sections import Ledger
from keyslice.provenance import chain, heads, ledger
from keyslice.registry import settling
from keyslice.versioning import anchor
from tests import runbook
from tests.servers.receiver import Receiver


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("KEYSLICE_SIGNING_KEY", "KEYSLICE_SIGNERS"):
        monkeypatch.delenv(name, raising=False)
    for at, options in (("far", ["--bare"]), ("workspace", [])):
        subprocess.run(["git", "init", "--quiet", *options, str(tmp_path / at)], check=True)
    command = ["git", "remote", "add", "far", str(tmp_path / "far")]
    subprocess.run(command, cwd=tmp_path / "workspace", check=True)
    return Workspace(tmp_path / "workspace")


def _params(remote: str) -> Params:
    return Params.model_construct(ledger=Ledger(remote=remote))


def test_heads_go_to_the_remote_that_is_set_and_anchor_the_ledger(workspace: Workspace) -> None:
    ledger.append(workspace, "run.started", "scans", {})
    heads.note(workspace)
    settling.push(workspace, _params("far"), pytest.fail)
    assert chain.check(workspace, "far").anchored == len(ledger.read(workspace))


def test_a_remote_that_is_away_is_told_of_and_gets_its_heads_from_a_later_command(
    workspace: Workspace, tmp_path: Path
) -> None:
    ledger.append(workspace, "run.started", "scans", {})
    heads.note(workspace)
    (tmp_path / "far").rename(tmp_path / "away")
    told: list[str] = []
    settling.push(workspace, _params("far"), told.append)
    [line] = told
    assert "the ledger's heads were not pushed" in line
    assert anchor.unpushed(workspace, "far")
    (tmp_path / "away").rename(tmp_path / "far")
    settling.push(workspace, _params("far"), pytest.fail)
    assert not anchor.unpushed(workspace, "far")


def _told(workspace: Workspace, url: str) -> str:
    """The line that is told of heads that go to a remote at `url`."""
    command = ["git", "remote", "set-url", "far", url]
    subprocess.run(command, cwd=workspace.root, check=True)
    ledger.append(workspace, "run.started", "scans", {})
    heads.note(workspace)
    told: list[str] = []
    settling.push(workspace, _params("far"), told.append)
    [line] = told
    return line


def test_a_remote_that_never_answers_is_given_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "LIMIT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = _told(workspace, f"git://127.0.0.1:{silent.getsockname()[1]}/ledger")
        assert "git push far: had not ended after 0.5 s, and was ended" in line
        silent.settimeout(10)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(10)
            while connection.recv(4096):  # until git is gone
                pass


def test_nobody_is_asked_for_the_password_of_a_remote(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runbook.program(tmp_path / "programs", "ask", "exec sleep 600")
    for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(tmp_path / "programs" / "ask"))
    monkeypatch.setattr(anchor, "LIMIT_SECONDS", 20.0)
    with Receiver() as server:
        server.answers = [(401, {"WWW-Authenticate": 'Basic realm="far"'})]
        line = _told(workspace, f"http://127.0.0.1:{server.port}/ledger")
    assert "could not read Username" in line


@pytest.mark.parametrize("theirs", ["", "core.sshCommand", "GIT_SSH_COMMAND", "GIT_SSH"])
def test_ssh_waits_for_no_person_and_a_persons_own_way_to_call_it_is_kept(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    programs, called = tmp_path / "programs", tmp_path / "called"
    for name in ("ssh", "own"):
        runbook.program(programs, name, f'echo {name} "$@" >> {called}; exit 1')
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    for name in ("GIT_SSH_COMMAND", "GIT_SSH"):
        monkeypatch.delenv(name, raising=False)
    if theirs.startswith("GIT"):
        monkeypatch.setenv(theirs, "own")
    elif theirs:
        subprocess.run(["git", "config", theirs, "own"], cwd=workspace.root, check=True)
    _told(workspace, "ssh://store.ward/ledger")
    ran = called.read_text()
    assert ran.startswith("own " if theirs else "ssh ")
    assert ("-oBatchMode=yes" in ran) is not bool(theirs)

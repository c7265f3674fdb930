"""What each command does for the ledger besides its own work."""

import subprocess
from pathlib import Path

import pytest

from keyslice.config import Params, Workspace
from keyslice.config.sections import Ledger
from keyslice.provenance import chain, heads, ledger
from keyslice.registry import settling
from keyslice.versioning import anchor


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

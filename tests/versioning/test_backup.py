"""docs/operations.md, Backup and restore: what the page says brings everything back."""

import shutil
import subprocess
import sys
from pathlib import Path

from keyslice.config import Workspace
from tests import runbook
from tests.versioning.conftest import Git


def _files(root: Path) -> dict[str, bytes]:
    """All but git's and DVC's own."""
    found = {}
    for file in root.rglob("*"):
        name = file.relative_to(root)
        if file.is_file() and name.parts[0] not in (".git", ".dvc"):
            found[str(name)] = file.read_bytes()
    return found


def test_what_the_page_says_brings_a_workspace_back(
    workspace: Workspace, git: Git, tmp_path: Path
) -> None:
    root = workspace.root
    for command in (["remote", "add", "--default", "store", str(tmp_path / "store")], ["push"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=root, check=True)
    settings = root / ".dvc" / "config.local"
    settings.write_text("['remote \"store\"']\n    jobs = 1\n")
    # As a retraining leaves it whose changes are not committed, and a person's own edits.
    (root / "params.yaml").open("a").write("# mine\n")
    (root / "draft").unlink()
    (root / "plan").write_text("staged\n")
    git("add", "plan")
    for path in ("data/initial/tiny.json", "state/ledger.jsonl", "a file of mine"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    before, status = _files(root), git("status", "--porcelain", "--untracked-files=all")
    assert " M dvc.lock" in status
    assert "?? data/initial/tiny.json" in status

    machine, called = runbook.Machine(tmp_path / "machine", root), tmp_path / "called"
    for name in ("keyslice", "make"):
        machine.program(name, f'echo {name} "$@" >> {called}')
    machine.program("dvc", f'exec {sys.executable} -m dvc "$@"')
    backup, restore = runbook.blocks("Backup and restore")
    machine.succeeds(backup)
    shutil.rmtree(root)
    root.mkdir()
    machine.succeeds(restore)

    assert _files(root) == before
    assert git("status", "--porcelain", "--untracked-files=all") == status
    assert settings.is_file()
    assert called.read_text().splitlines() == ["make setup", "keyslice verify liver"]
    assert machine.called == ["stop keyslice", "start keyslice", "enable --now keyslice"]

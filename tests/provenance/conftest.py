"""A workspace with git and nothing else, and keys to sign with."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keyslice.config import Workspace


@pytest.fixture(autouse=True)
def _nobody_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYSLICE_SIGNING_KEY", "KEYSLICE_SIGNERS", "KEYSLICE_ACTOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return Workspace(root)


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[[str], Path]:
    """`make_key("anna")`: a new ssh key outside the workspace."""

    def make(name: str) -> Path:
        key = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(command, check=True)
        return key

    return make

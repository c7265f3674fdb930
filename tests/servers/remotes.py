"""Remotes of DVC of every kind, behind one face."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.process import Server


@dataclass(frozen=True)
class Remote:
    """Empty at first.

    Args:
        settings: DVC's, by name, the address among them.
        fetch: copies all that lies there to a folder.
        server: that is asked; None: it is a folder.
    """

    settings: dict[str, str]
    fetch: Callable[[Path], None]
    server: Server | None = None

    def configure(self, root: Path) -> None:
        """Make it the workspace's remote, by settings that git does not see."""
        lines = ["[core]", "remote = store", """['remote "store"']"""]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        (root / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")


def run(root: Path, *command: str) -> str:
    """What it says.

    Raises:
        AssertionError: it failed; its words.
    """
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else [*command]
    answer = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    """Of the kind that the test is parametrized with: `folder`, `ssh` or `s3`."""
    name = tmp_path.name
    if request.param == "ssh":
        server = request.getfixturevalue("ssh")
        return Remote(server.settings(name), lambda to: _copy(server.files / name, to), server)
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        return Remote(server.settings(name), lambda to: server.fetch(name, to), server)
    (tmp_path / "remote").mkdir()
    return Remote({"url": str(tmp_path / "remote")}, lambda to: _copy(tmp_path / "remote", to))


def _copy(place: Path, to: Path) -> None:
    shutil.copytree(place, to, dirs_exist_ok=True)

"""Commands of docs/operations.md, for tests that do as the page says."""

import os
import re
import subprocess
from pathlib import Path

from tests.scans import ROOT, environment

PAGE = ROOT / "docs" / "operations.md"
HOME, BACKUPS = "/srv/keyslice", "/mnt/backup"
"""The page's folders of the workspace and of backups."""


def blocks(section: str) -> list[str]:
    """The commands of a section, block by block."""
    text = PAGE.read_text(encoding="utf-8")
    [found] = re.findall(rf"^## {section}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```bash\n(.*?)^```", found, re.MULTILINE | re.DOTALL)


def run(block: str, root: Path, backups: Path, programs: Path) -> None:
    """The block's commands as they stand, for the workspace `root`; `programs` are found first."""
    script = block.replace(HOME, str(root)).replace(BACKUPS, str(backups))
    path = f"{programs}{os.pathsep}{environment()['PATH']}"
    command = ["bash", "-euxo", "pipefail", "-c", script]
    done = subprocess.run(
        command,
        cwd=backups,
        env=environment() | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def program(folder: Path, name: str, script: str) -> None:
    """Lay down a program that stands for another."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)

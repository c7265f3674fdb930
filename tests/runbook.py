"""Commands of docs/operations.md, for tests that do as the page says."""

import os
import re
import subprocess
from pathlib import Path

from tests.scans import ROOT, environment

PAGE = ROOT / "docs" / "operations.md"
WRAPPER = ROOT / "deploy" / "as-keyslice"
HOME, BACKUPS, SETTINGS = "/srv/keyslice", "/mnt/backup", "/etc/keyslice"
"""The page's folders of the workspace, of backups, and of settings."""


def blocks(section: str, fence: str = "bash") -> list[str]:
    """The commands of a section, block by block; others have another word at their fence."""
    text = PAGE.read_text(encoding="utf-8")
    [found] = re.findall(rf"^##+ {section}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{fence}\n(.*?)^```$", found, re.MULTILINE | re.DOTALL)


def program(folder: Path, name: str, script: str) -> None:
    """Lay down a program that stands for another."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


class Machine:
    """Where the page's commands are run, for a workspace.

    Its folders lie in `home`. sudo and systemd are stood for: nobody becomes another user, and
    nothing runs that could be stopped.

    Attributes:
        programs: they and `as-keyslice` lie here, and are found first.
        called: the orders that systemctl was given.
    """

    def __init__(self, home: Path, root: Path) -> None:
        self.root, self.programs = root, home / "programs"
        self.backups, self.settings = home / "backups", home / "etc"
        self._called = home / "called"
        for folder in (self.backups, self.settings):
            folder.mkdir(parents=True)
        (self.settings / "environment").touch()
        self._called.touch()
        self.program("sudo", 'exec "$@"')
        self.program("systemctl", f'echo "$@" >> {self._called}')
        self.program("systemd-run", _SYSTEMD_RUN)
        self.program("as-keyslice", self.here(WRAPPER.read_text()))

    @property
    def called(self) -> list[str]:
        return self._called.read_text().splitlines()

    def program(self, name: str, script: str) -> None:
        program(self.programs, name, script)

    def run(self, block: str) -> "subprocess.CompletedProcess[str]":
        """The block's commands as they stand, but for the names of folders."""
        return subprocess.run(
            ["bash", "-uxo", "pipefail", "-c", self.here(block)],
            cwd=self.programs.parent,
            env=environment() | {"PATH": f"{self.programs}{os.pathsep}{environment()['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    def succeeds(self, block: str) -> str:
        """What it says."""
        done = self.run(block)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def here(self, text: str) -> str:
        for there, here in (
            (HOME, self.root),
            (BACKUPS, self.backups),
            (SETTINGS, self.settings),
            ("/usr/local/bin", self.programs),
        ):
            text = text.replace(there, str(here))
        return text


_SYSTEMD_RUN = """
while :; do
  case $1 in
    --working-directory=*) cd "${1#*=}" || exit 200 ;;
    --property=EnvironmentFile=*) set -a; . "${1#*=*=}" || exit 200; set +a ;;
    --*) ;;
    *) break ;;
  esac
  shift
done
for word do
  shift
  set -- "$@" "$(printf %s "$word" | sed 's/\\$\\$/@@/g; s/\\$[A-Z]*//g; s/@@/$/g')"
done
exec "$@"
"""

"""The libraries of a run: what its requirements.lock names, installed here or beside."""

import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from keyslice.errors import RunError
from keyslice.versioning import processes

_PINNED = re.compile(r"^[A-Za-z0-9][^\s#]*==[^\\]*", re.MULTILINE)


def differences(lock: str) -> dict[str, tuple[str, str]]:
    """Libraries whose installed version is not the locked one: locked, installed (or empty).

    What the lock holds for other systems, by its markers, is left out; so are libraries that are
    not installed at all, which is how tools for development alone are absent.
    """
    found = {}
    for line in _PINNED.findall(lock):
        try:
            wanted = Requirement(line.strip())
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        locked = str(wanted.specifier).removeprefix("==")
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            continue
        if installed != locked:
            found[wanted.name] = (locked, installed)
    return found


def install(lock: Path, target: Path, on_line: Callable[[str], None] | None = None) -> Path:
    """A virtual environment with what a lock names; returns its interpreter.

    Args:
        lock: requirements.lock, whose hashes are checked.
        target: folder to make it in.
        on_line: told of each line of output.

    Raises:
        RunError: uv is not there, or cannot get a library.
    """
    uv = shutil.which("uv", path=processes.environment()["PATH"])
    if uv is None:
        raise RunError("uv, which installs the run's libraries, is not there; pip install uv")
    python = target / "bin" / "python"
    commands = (
        (uv, "venv", "--quiet", "--python", sys.executable, str(target)),
        (uv, "pip", "install", "--quiet", "--python", str(python), "--requirements", str(lock)),
    )
    for command in commands:
        finished = processes.run(command, cwd=lock.parent, on_line=on_line)
        if finished.code != 0:
            said = next((line for line in reversed(finished.lines) if line.strip()), "")
            raise RunError(f"{command[1]} of the run's libraries failed: {said}")
    return python

"""What tests of the service share: it is started, waited for, and its processes are found."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.scans import environment


def start(root: Path, log: Path, command: str = "up", **variables: str) -> subprocess.Popen[bytes]:
    """`keyslice up`, or another command, in a workspace; what it says is appended to `log`."""
    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "keyslice.cli", command],
            cwd=root,
            env=environment() | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def processes(root: Path) -> list[psutil.Process]:
    """All that work in the workspace."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if process.info["cwd"] == str(root) and not ended:
            found.append(process)
    return found


def wait(
    condition: Callable[[], Any], what: str, log: Path, *, seconds: float, poll: float = 0.1
) -> Any:
    """What the condition is as soon as it is true; `what` is said where it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()}"
        time.sleep(poll)
    return found

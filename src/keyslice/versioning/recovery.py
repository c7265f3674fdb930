"""What a killed run leaves behind and the next one clears away: processes, and DVC's locks."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from keyslice import files
from keyslice.config import Workspace
from keyslice.versioning.processes import end_orphans


def recover(workspace: Workspace) -> bool:
    """End what a killed run left running and lift the locks of processes that are gone.

    Returns:
        Whether there was anything to do.
    """
    ended = end_orphans(workspace.root)
    with _guarded(workspace.root / ".dvc" / "tmp" / "rwlock.lock") as held:
        lifted = held and _lift_dead_locks(workspace)
    return bool(ended) or lifted


@contextmanager
def _guarded(file: Path) -> Iterator[bool]:
    """Hold the lock under which DVC edits its notes, if it is free; whether it is held.

    It is the operating system's lock on that file. The file is not created: DVC never removes it,
    and where it is missing there are no notes, or DVC has been set to locks of another kind.
    """
    with ExitStack() as opened:  # closing the file lifts the lock
        try:
            guard = opened.enter_context(file.open("r+"))
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except (FileNotFoundError, BlockingIOError):
            held = False
        yield held


def _lift_dead_locks(workspace: Workspace) -> bool:
    """DVC notes who reads and writes which path, and takes the notes of the dead for true."""
    file = workspace.root / ".dvc" / "tmp" / "rwlock"
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except json.JSONDecodeError:  # cut off by a kill
        file.unlink()
        return True
    written = {path: who for path, who in noted.get("write", {}).items() if _lives(who)}
    read = {path: [w for w in who if _lives(w)] for path, who in noted.get("read", {}).items()}
    left = {"write": written, "read": {path: who for path, who in read.items() if who}}
    if left == noted:
        return False
    files.write_text(file, json.dumps(left))
    return noted.get("write", {}) != written


def _lives(who: dict[str, Any]) -> bool:
    if not who:
        return True
    try:
        # One that has ended may keep its number until its new parent takes note of it.
        return psutil.Process(who["pid"]).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

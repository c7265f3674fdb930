"""One lock per dataset covers ingest and prepare; whoever waits is told who holds it."""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError

PATIENCE_SECONDS = 3600.0
HELD = "KEYSLICE_DATASET_HELD"
"""In a stage's environment: the dataset whose lock is held for it, by the process that had DVC
start it and that goes on holding it until DVC has hashed what the stage has read."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def dataset_lock(
    workspace: Workspace, dataset: str, command: str, *, patience: float = PATIENCE_SECONDS
) -> Iterator[None]:
    """Hold a dataset's exams and prepared frames for as long as the block runs; see `locked`."""
    if os.environ.get(HELD) == dataset:
        yield
        return
    with locked(workspace, f"dataset-{dataset}", command, patience=patience):
        yield


@contextlib.contextmanager
def locked(
    workspace: Workspace, name: str, command: str, *, patience: float = PATIENCE_SECONDS
) -> Iterator[None]:
    """Hold the lock of this name for as long as the block runs.

    A second caller logs who holds the lock and waits. The same thread may enter it again. The
    operating system releases it when its process dies, however it dies.

    Args:
        workspace: that the lock belongs to.
        name: of the lock.
        command: what the holder does, such as `ingest`; shown to those who wait.
        patience: seconds to wait.

    Raises:
        UserError: still held by another after `patience`; names the holder.
    """
    path = workspace.lock(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True)
    note = path.with_suffix(".json")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("%s is in use by %s; waiting", name, _holder(note))
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise UserError(
                f"{name} is still in use by {_holder(note)}",
                rule="one process at a time does this",
                remedy="wait until it has ended, or end it",
            ) from None
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            files.write_text(note, json.dumps(_me(command)))
        yield
    finally:
        if outermost:
            note.unlink(missing_ok=True)
        lock.release()


def _me(command: str) -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command, "pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(note: Path) -> str:
    try:
        who = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "a process that has only just taken it"
    return f"`{who['command']}`, process {who['pid']} on {who['host']}, since {who['since']}"

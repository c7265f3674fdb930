"""One process at a time runs a stage or retrains a dataset: others are refused, orphans are ended.

A lock of the operating system, which releases it when its holder dies, decides; the note beside it
names the holder.
"""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil
from filelock import FileLock, Timeout

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError

PATIENCE_SECONDS = 10
"""That an orphan has between the request to end and its end by force."""
HANDOVER_SECONDS = 1
"""Until the lock of a process that has been ended is free."""

Note = dict[str, Any]


@contextmanager
def only_process_of(workspace: Workspace, stage: str) -> Iterator[None]:
    """Hold a stage, such as `train@adrenal-das`, for as long as the block runs.

    Where the holder's parent (DVC) is gone and the holder is not, a killed run left it behind: it
    is ended, since it would write into the same folder.

    Raises:
        UserError: another process runs the stage and its parent is alive.
    """
    lock = _Lock(workspace, stage, "keyslice stage")
    if not lock.take():
        _end_orphan(lock.holder())
        if not lock.take(HANDOVER_SECONDS):
            raise UserError(
                f"is running already, by {_named(lock.holder())}",
                where=stage,
                rule="a stage runs once at a time",
                remedy="wait for it, or end that process",
            )
    try:
        yield
    finally:
        lock.release()


@contextmanager
def only_retraining(workspace: Workspace, datasets: Sequence[str], command: str) -> Iterator[None]:
    """Hold the results, runs and models of `datasets` for as long as the block runs.

    Two retrainings of one dataset would run the same stages at once, and each would end the other's
    runs in MLflow.

    Args:
        workspace: that the datasets lie in.
        datasets: their names.
        command: of the holder, shown to those who are refused.

    Raises:
        UserError: another process retrains or registers one of them; names it.
    """
    with ExitStack() as held:
        for dataset in sorted(set(datasets)):
            lock = _Lock(workspace, f"retrain-{dataset}", command)
            if not lock.take():
                raise UserError(
                    f"{dataset} is in use by {_named(lock.holder())}",
                    rule="one process at a time retrains or registers a dataset",
                    remedy="wait for it, or end it",
                )
            held.callback(lock.release)
        yield


class _Lock:
    """A lock of this workspace, with a note of who holds it."""

    def __init__(self, workspace: Workspace, name: str, command: str) -> None:
        path = workspace.lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock, self._note, self._command = FileLock(path), path.with_suffix(".json"), command

    def take(self, patience: float = 0) -> bool:
        """Whether it is held now: at once, or freed by another within `patience` seconds."""
        try:
            self._lock.acquire(timeout=patience)
        except Timeout:
            return False
        me = psutil.Process()
        entry = {"process": identity(me), "parent": identity(me.parent())}
        entry |= {"command": self._command, "host": socket.gethostname()}
        files.write_text(self._note, json.dumps(entry))
        return True

    def release(self) -> None:
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> Note:
        """The note of who holds it; empty where there is none that can be read."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads(self._note.read_text(encoding="utf-8"))
        return {}


def _named(holder: Note) -> str:
    if not holder:
        return "a process that has only just begun"
    return f"`{holder['command']}`, process {holder['process']['pid']} on {holder['host']}"


def _end_orphan(holder: Note) -> None:
    """End the holder of a lock if its parent is known to be gone."""
    # On a shared disk it may run on another host, where the numbers mean other processes.
    if holder.get("host") != socket.gethostname():
        return
    process, parent = alive(holder["process"]), holder["parent"]
    if process is None or parent is None or alive(parent) is not None:
        return
    process.terminate()
    _, left = psutil.wait_procs([process], PATIENCE_SECONDS)
    for stubborn in left:
        stubborn.kill()
    psutil.wait_procs(left, PATIENCE_SECONDS)


def identity(process: psutil.Process | None) -> dict[str, float] | None:
    """What tells a process from a later one with the same number."""
    return process and {"pid": process.pid, "started": process.create_time()}


def alive(identity: dict[str, float] | None) -> psutil.Process | None:
    """The process with this number, if it is the one that started then and has not ended."""
    if identity is None:
        return None
    try:
        process = psutil.Process(int(identity["pid"]))
        same = process.create_time() == identity["started"]
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None

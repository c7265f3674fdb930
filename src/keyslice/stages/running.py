"""One process at a time runs a stage or retrains a dataset: others are refused, orphans are ended.

A lock of the operating system, which releases it when its holder dies, decides; the note beside it
names the holder.
"""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
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


class InUseError(UserError):
    """Another process retrains or registers a dataset."""


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
        InUseError: another process retrains or registers one of them; names it.
    """
    with ExitStack() as held:
        for dataset in sorted(set(datasets)):
            lock = _Lock(workspace, retraining_of(dataset), command)
            if not lock.take():
                raise InUseError(
                    f"{dataset} is in use by {_named(lock.holder())}",
                    rule="one process at a time retrains or registers a dataset",
                    remedy="wait for it, or end it",
                )
            held.callback(lock.release)
        yield


def retraining_of(dataset: str) -> str:
    """The name under which a dataset's retraining or registration is held."""
    return f"retrain-{dataset}"


@dataclass(frozen=True)
class UnderWay:
    """What runs now."""

    name: str
    """Of a stage, such as `train@adrenal-das`, or `retraining_of` a dataset."""
    holder: str
    """The command and its process, in words."""
    since: datetime


def under_way(workspace: Workspace) -> list[UnderWay]:
    """The stages that run now and the datasets that are retrained or registered, by name.

    From the notes beside the locks: asking takes no lock, so that it is in nobody's way. But for
    the note of another host: where its lock is free, the note is removed.
    """
    folder = workspace.lock("any").parent
    found: list[UnderWay] = []
    # Not the hidden files: a kill leaves them half-written.
    notes = [*folder.glob("[!.]*@*.json"), *folder.glob(f"{retraining_of('*')}.json")]
    for file in sorted(notes):
        holder = _read(file)
        if not holder or _has_ended(file, holder):
            continue
        with suppress(FileNotFoundError):  # it has ended just now
            since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            found.append(UnderWay(file.stem, _named(holder), since))
    return found


def _has_ended(note: Path, holder: Note) -> bool:
    """Whether the holder of a lock is gone, by the note beside it."""
    if holder["host"] == socket.gethostname():
        return alive(holder["process"]) is None
    # What a process on another host does is not seen from here, and a container that is made anew
    # may have another name: the lock tells.
    lock = FileLock(note.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=0):
            note.unlink(missing_ok=True)  # so that this is asked once
    except (Timeout, OSError):  # also one who may read here and not write
        return False
    return True


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
        return _read(self._note)


def _read(note: Path) -> Note:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(note.read_text(encoding="utf-8"))
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


def identity(process: psutil.Process | None) -> dict[str, int | float | str] | None:
    """What tells a process from a later one with the same number."""
    return process and {"pid": process.pid, "started": _started(process)}


def alive(identity: dict[str, int | float | str] | None) -> psutil.Process | None:
    """The process with this number, if it is the one that started then and has not ended."""
    if identity is None:
        return None
    try:
        process = psutil.Process(int(identity["pid"]))
        same = _started(process) == identity["started"]
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _started(process: psutil.Process) -> float | str:
    """When a process began: on Linux the boot and the ticks since then, elsewhere a time.

    The time follows the system's clock when that is set; the ticks do not.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Fields from the third on: the second, a name in brackets, may hold blanks and brackets.
        fields = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return process.create_time()
    return f"{boot} {fields.split()[19]}"

"""One process per stage: a second one is refused, an orphan of a killed run is ended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError

PATIENCE_SECONDS = 10


@contextmanager
def only_process_of(workspace: Workspace, stage: str) -> Iterator[None]:
    """Hold a stage, such as `train@adrenal-das`, for as long as the block runs.

    The lock is a record of process and parent with their start times. Where the parent (DVC) is
    gone and the process is not, a killed run left it behind: it is ended, since it would write
    into the same folder.

    Raises:
        UserError: another process runs the stage and its parent is alive.
    """
    record = workspace.state / "locks" / f"{stage}.json"
    _end_orphan(record, stage)
    me = psutil.Process()
    entry = {"process": identity(me), "parent": identity(me.parent())}
    files.write_text(record, json.dumps(entry))
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def _end_orphan(record: Path, stage: str) -> None:
    try:
        entry = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return
    process = alive(entry["process"])
    if process is None:
        return
    if alive(entry["parent"]) is not None:
        raise UserError(
            f"is running already, as process {process.pid}",
            where=stage,
            rule="a stage runs once at a time",
            remedy="wait for it, or end that process",
        )
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

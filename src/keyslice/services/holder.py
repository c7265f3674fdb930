"""One `keyslice up` and one `keyslice serve` for a workspace; each leaves a note of its servers.

A lock of the operating system, which releases it when its holder dies, decides.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError, without_credentials
from keyslice.health import health
from keyslice.services.programs import Program
from keyslice.stages.running import alive, identity

Command = Literal["up", "serve"]
BRIEF = 1.0
"""Seconds: the timeout of a question of somebody who waits."""


@dataclass(frozen=True)
class Server:
    """One that a command works with; addresses without passwords."""

    name: str
    page: str
    health: str
    own: bool
    """Whether the installation has started it."""


@dataclass(frozen=True)
class Holder:
    """A command that runs."""

    process: psutil.Process
    servers: tuple[Server, ...]

    def health(self) -> dict[str, str]:
        """How each server is, by its name; all are asked at once."""
        if not self.servers:
            return {}
        with ThreadPoolExecutor(len(self.servers)) as asked:
            answers = asked.map(lambda s: health(s.health, own=s.own, timeout=BRIEF), self.servers)
            return {one.name: told for one, told in zip(self.servers, answers, strict=True)}


@contextmanager
def only_one(
    workspace: Workspace, command: Command, *, rule: str, remedy: str
) -> Iterator[Callable[[Sequence[Program]], None]]:
    """Hold a workspace for a command while the block runs; yields what notes its servers.

    Raises:
        UserError: it runs already.
    """
    guard, note = workspace.lock(command), _note(workspace, command)
    guard.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(guard)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        where = f"keyslice {command}"
        raise UserError("is running already", where=where, rule=rule, remedy=remedy) from None

    def write(servers: Sequence[Program]) -> None:
        noted = [asdict(_server(one)) for one in servers if one.page]
        files.write_text(
            note, json.dumps({"process": identity(psutil.Process()), "servers": noted})
        )

    try:
        write(())
        yield write
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def holder(workspace: Workspace, command: Command) -> Holder | None:
    """Who runs a command in a workspace; None: nobody."""
    try:
        noted = json.loads(_note(workspace, command).read_text(encoding="utf-8"))
        process = alive(noted["process"])
        servers = tuple(Server(**one) for one in noted["servers"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    return None if process is None else Holder(process, servers)


def _server(program: Program) -> Server:
    address = without_credentials(program.health)
    return Server(program.name, program.page, address, program.command is not None)


def _note(workspace: Workspace, command: Command) -> Path:
    return workspace.state / "service" / command

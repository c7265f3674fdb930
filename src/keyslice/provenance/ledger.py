"""The ledger: an append-only chain of events, each holding the hash of the one before.

One line of canonical JSON for each event in state/ledger/events.jsonl. A line is on the disk before
`append` returns, so what it tells of may count from then on. Nothing here proves that the file is
the one that was written: see `keyslice.provenance.chain` and `keyslice.provenance.heads`.
"""

import getpass
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from keyslice import __version__, files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import canonical, events
from keyslice.provenance.installation import installation

ACTOR_VARIABLE = "KEYSLICE_ACTOR"
FIRST = "0" * 64
"""What stands for the hash of an event before the first."""
_FIELDS = {"sequence", "time", "actor", "action", "object", "payload", "previous", "hash"}
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_BLOCK = 2**14
_POLL_SECONDS = 0.005
"""Between two looks whether another writer is done; one takes a few milliseconds."""


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    number: int
    """From 1, without gaps."""
    time: datetime
    """UTC."""
    actor: str
    action: str
    """One of `keyslice.provenance.events`."""
    object: str
    payload: Mapping[str, Any]
    previous: str
    """Hash of the event before."""
    hash: str
    """sha256 of the canonical JSON of all the rest."""


def folder(workspace: Workspace) -> Path:
    """Where the ledger and what lies beside it is kept."""
    return workspace.state / "ledger"


def path(workspace: Workspace) -> Path:
    """Of the chain itself."""
    return folder(workspace) / "events.jsonl"


def actor() -> str:
    """Who acts: KEYSLICE_ACTOR, else the name of the operating system's user."""
    return os.environ.get(ACTOR_VARIABLE) or getpass.getuser()


def append(
    workspace: Workspace,
    action: str,
    about: str,
    payload: Mapping[str, Any],
    *,
    by: str | None = None,
) -> Event:
    """Add an event and flush it to the disk; several processes may do so at once.

    A last line that a crash cut off is taken out (to state/ledger/torn), which is an event, too.

    Args:
        workspace: whose ledger.
        action: one of `keyslice.provenance.events`.
        about: the event's object.
        payload: JSON, without NaN.
        by: default `actor()`.

    Raises:
        UserError: the last event is damaged: nothing is built on it.
        ValueError: the payload is no JSON.
    """
    canonical.dumps(payload)  # refused before anything is written
    by = by or actor()
    with exclusive(workspace):
        known = path(workspace).exists()
        with path(workspace).open("a+b") as file:
            last = _whole(workspace, file)
            torn = _torn(workspace, last)
            if last is None:
                opened = {"keyslice": __version__}
                last = _write(file, last, events.LEDGER_OPENED, installation(workspace), opened, by)
            if torn:
                mended = {"fragments": torn}
                last = _write(file, last, events.LEDGER_MENDED, "ledger", mended, by)
            event = _write(file, last, action, about, payload, by)
        if not known:
            files.flush(folder(workspace))  # the name, too, is on the disk
    return event


def exclusive(workspace: Workspace) -> FileLock:
    """The lock that whoever appends holds; to read and append with nobody in between.

    Whoever holds it may append: one process's second entry does not wait for its first.
    """
    guard = workspace.lock("ledger")
    guard.parent.mkdir(parents=True, exist_ok=True)
    folder(workspace).mkdir(parents=True, exist_ok=True)
    return FileLock(guard, is_singleton=True, poll_interval=_POLL_SECONDS)


def read(workspace: Workspace) -> list[Event]:
    """All events, in their order; a last line that is being written, or was cut off, is left out.

    Each is as it was written and follows from the one before; that the end is not missing and the
    whole not written anew is what `keyslice.provenance.chain` looks at.

    Raises:
        UserError: one was altered, removed or moved.
    """
    found: list[Event] = []
    previous = FIRST
    for number, line in enumerate(lines(workspace)[0], 1):
        try:
            event = parse(line)
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(f"event {number} was altered ({error})") from None
        if event.number != number or event.previous != previous:
            raise _damaged(f"event {number} is not the one that was written")
        found.append(event)
        previous = event.hash
    return found


def readable(workspace: Workspace) -> list[Event]:
    """The events that are as they were written, of a ledger that may be damaged."""
    found = []
    for line in lines(workspace)[0]:
        with suppress(ValueError, LookupError, TypeError):
            found.append(parse(line))
    return found


def lines(workspace: Workspace) -> tuple[list[bytes], int]:
    """Whole lines, without their ends, and the bytes of what follows the last of them."""
    try:
        *whole, fragment = path(workspace).read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    return whole, len(fragment)


def parse(line: bytes) -> Event:
    """Raises ValueError: it is no event, or not as `append` writes it, byte for byte."""
    found = json.loads(line)
    if not isinstance(found, dict) or found.keys() != _FIELDS:
        raise ValueError("an event has the fields of one")
    if canonical.dumps(found).encode() != line:
        raise ValueError("an event is canonical JSON")
    content = {name: found[name] for name in sorted(_FIELDS - {"hash"})}
    if canonical.sha256(content) != found["hash"]:
        raise ValueError("its hash is not that of its content")
    return _made(found)


def _made(found: Mapping[str, Any]) -> Event:
    moment = datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC)
    names = ("actor", "action", "object", "payload", "previous", "hash")
    return Event(found["sequence"], moment, *(found[name] for name in names))


def _write(
    file: IO[bytes],
    last: Event | None,
    action: str,
    about: str,
    payload: Mapping[str, Any],
    by: str,
) -> Event:
    content = {
        "sequence": last.number + 1 if last else 1,
        "time": datetime.now(UTC).strftime(_TIME),
        "actor": by,
        "action": action,
        "object": about,
        "payload": payload,
        "previous": last.hash if last else FIRST,
    }
    line = canonical.dumps(content | {"hash": canonical.sha256(content)}).encode()
    file.write(line + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return parse(line)


def _whole(workspace: Workspace, file: IO[bytes]) -> Event | None:
    """The last event, after what follows its line has been put aside; None: there is none yet."""
    line, fragment = _tail(file)
    last = None
    if line:
        try:
            last = parse(line)
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(f"its last event is damaged ({error})") from None
    if fragment:
        digest = hashlib.sha256(fragment).hexdigest()
        number = last.number + 1 if last else 1
        with files.beside(folder(workspace) / "torn" / f"{number}-{digest[:16]}") as part:
            part.write_bytes(fragment)  # first: a crash from here on is mended by the next event
        file.truncate(file.seek(0, os.SEEK_END) - len(fragment))
        os.fsync(file.fileno())
    return last


def _tail(file: IO[bytes]) -> tuple[bytes, bytes]:
    """The last whole line, and what follows it without an end."""
    start = file.seek(0, os.SEEK_END)
    read = b""
    while start and read.count(b"\n") < 2:
        size = min(_BLOCK, start)
        start -= size
        file.seek(start)
        read = file.read(size) + read
    whole, newline, fragment = read.rpartition(b"\n")
    return (whole.rpartition(b"\n")[2], fragment) if newline else (b"", read)


def _torn(workspace: Workspace, last: Event | None) -> list[dict[str, Any]]:
    """What was cut off after the last event and no event tells of yet."""
    since = last.number + 1 if last and last.number > 1 else 1  # the first may be LEDGER_OPENED
    found = (folder(workspace) / "torn").glob("[0-9]*-*")
    parts = [p.read_bytes() for p in sorted(found) if int(p.name.partition("-")[0]) >= since]
    return [{"bytes": len(p), "sha256": hashlib.sha256(p).hexdigest()} for p in parts]


def _damaged(what: str) -> UserError:
    return UserError(
        what,
        where="state/ledger/events.jsonl",
        rule="each event is as it was written",
        remedy="keyslice ledger verify tells more; restore the file from a backup of state/",
    )

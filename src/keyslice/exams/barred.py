"""Who is barred from a dataset: patients who have withdrawn, and what was theirs.

A list beside the ledger, by pseudonym: no later ingestion takes an exam of theirs. The ids of the
exams that were erased stand there, too: the same pixels do not come back under another patient.
Which keys the pseudonyms were made with stands there by marks (`keyring`): without them nobody on
the list would be known again.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError

MODE = 0o600
"""Nobody but this account needs to know who."""
_LINE = re.compile(r"(patient|exam|key) ([0-9a-f]{32})")


@dataclass(frozen=True)
class Barred:
    """Of one dataset, or to be sought in several."""

    patients: frozenset[str] = frozenset()
    """Pseudonyms."""
    exams: frozenset[str] = frozenset()
    """Ids."""
    keys: frozenset[str] = frozenset()
    """Marks of keys that pseudonyms were made with, where that is known."""

    def __or__(self, other: "Barred") -> "Barred":
        keys = self.keys | other.keys
        return Barred(self.patients | other.patients, self.exams | other.exams, keys)

    def bars(self, row: Mapping[str, Any]) -> bool:
        """Whether a row with `exam_id` and `patient` is one of theirs."""
        return row["patient"] in self.patients or row["exam_id"] in self.exams


def path(workspace: Workspace, name: str) -> Path:
    """The list of dataset `name`."""
    return workspace.state / "ledger" / "barred" / f"{name}.txt"


def read(workspace: Workspace, name: str) -> Barred:
    """Who is barred from dataset `name`; nobody where there is no list.

    Raises:
        UserError: the list was edited into something else; nobody is let in by mistake.
    """
    try:
        lines = path(workspace, name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Barred()
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(name, f"cannot be read ({type(error).__name__})") from None
    found: dict[str, set[str]] = {"patient": set(), "exam": set(), "key": set()}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _damaged(name, f"line {number} is none of the list")
        found[match[1]].add(match[2])
    return Barred(*(frozenset(found[kind]) for kind in ("patient", "exam", "key")))


def add(workspace: Workspace, name: str, more: Barred) -> None:
    """Put patients and exams on the list of dataset `name`; the caller holds its lock.

    Raises:
        UserError: see `read`.
    """
    whole = read(workspace, name) | more
    lines = [*_lines("patient", whole.patients), *_lines("exam", whole.exams)]
    lines += _lines("key", whole.keys)
    files.write_text(path(workspace, name), "".join(lines), mode=MODE)


def digest(workspace: Workspace, name: str) -> str:
    """SHA-256 of the list; empty where there is none."""
    file = path(workspace, name)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _lines(kind: str, ids: Iterable[str]) -> list[str]:
    return [f"{kind} {one}\n" for one in sorted(ids)]


def _damaged(name: str, what: str) -> UserError:
    return UserError(
        what,
        where=f"state/ledger/barred/{name}.txt",
        rule="it names who has withdrawn; without it their exams would be taken in again",
        remedy="restore it from the backup of state/",
    )

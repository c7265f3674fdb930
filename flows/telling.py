"""Of a version that is being registered: who has been told of what, so that a kill loses nothing.

The note stands in state/service from before the registration until all has been told; a run that
finds one goes on with it. A kill between telling and noting it tells twice.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keyslice import files
from keyslice.config import Workspace


@dataclass(frozen=True)
class Telling:
    """What there was before, and what has been told since."""

    version: int | None
    """The model's, before the registration."""
    event: int
    """The ledger's last, before it."""
    told: tuple[str, ...] = ()
    """Occasions."""


def begin(workspace: Workspace, dataset: str, version: int | None, event: int) -> Telling:
    """Note what there is; where a run was cut off, what there was before that one."""
    return find(workspace, dataset) or _write(workspace, dataset, Telling(version, event))


def note(workspace: Workspace, dataset: str, telling: Telling, occasion: str) -> Telling:
    """Note that an occasion has been told of."""
    return _write(workspace, dataset, replace(telling, told=(*telling.told, occasion)))


def end(workspace: Workspace, dataset: str) -> None:
    """Nothing is left to be told."""
    _path(workspace, dataset).unlink(missing_ok=True)


def find(workspace: Workspace, dataset: str) -> Telling | None:
    """Of a run that was cut off; None: there is none, or its note is damaged."""
    try:
        found = json.loads(_path(workspace, dataset).read_text(encoding="utf-8"))
        return Telling(found["version"], found["event"], tuple(found["told"]))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _write(workspace: Workspace, dataset: str, telling: Telling) -> Telling:
    files.write_text(_path(workspace, dataset), json.dumps(asdict(telling)))
    return telling


def _path(workspace: Workspace, dataset: str) -> Path:
    return workspace.state / "service" / f"{dataset}.telling.json"

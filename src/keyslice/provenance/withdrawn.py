"""What the ledger tells of withdrawals: what was erased, and whom it concerns.

See `keyslice.provenance.withdrawal` for the payload of its events.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from keyslice.config import Workspace
from keyslice.exams import barred
from keyslice.provenance import descent, events
from keyslice.provenance.ledger import Event

Erased = dict[str, str]
"""Of a file: md5 (DVC's), kind, was and replaced_by (SHA-256 before and after)."""


def notes(workspace: Workspace) -> list[Path]:
    """Of withdrawals that were begun and not completed; `withdrawal.resume` completes them."""
    return sorted((workspace.state / "withdrawals").glob("[!.]*.json"))


def of_dataset(known: Iterable[Event], name: str) -> list[Event]:
    """Withdrawals from a dataset: the end of each, or its beginning where it has no end yet."""
    actions = (events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED)
    past = [e for e in known if e.action in actions and e.payload["dataset"] == name]
    return list({event.payload["withdrawal"]: event for event in past}.values())


def replacements(known: Iterable[Event]) -> dict[str, frozenset[str]]:
    """The SHA-256 that each of DVC's objects must have which a withdrawal touched, by md5.

    Any other object has the md5 of its name. Only what the last withdrawal left counts: what it
    erased does not come back.
    """
    found: dict[str, frozenset[str]] = {}
    for entries in _erasures(known):
        last: dict[str, set[str]] = {}
        for one in entries:
            last.setdefault(one["md5"], set()).add(one["replaced_by"])
        found |= {md5: frozenset(after) for md5, after in last.items()}
    return found


def successor(known: Iterable[Event], sha256: str) -> str:
    """What stands now for a file that once had this SHA-256, such as a manifest; itself if nothing.

    Follows the file through every withdrawal that took something out of it.
    """
    for entries in _erasures(known):
        after = [one["replaced_by"] for one in entries if one["was"] == sha256]
        sha256 = after[-1] if after else sha256
    return sha256


def exams_withdrawn(known: Iterable[Event], dataset: str, version: str) -> int:
    """How many exams of a dataset's version were erased; above 0 it cannot be reproduced."""
    counts = {
        event.payload["withdrawal"]: event.payload["versions"].get(version, 0)
        for event in known
        if event.action in (events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED)
        and event.payload["dataset"] == dataset
    }
    return sum(counts.values())


def models_affected(known: Sequence[Event]) -> dict[tuple[str, int], int]:
    """(Model, version) of every one that learned from a version that was withdrawn from.

    The values say how many exams of its dataset version were erased; where it started from another
    version and its own exams are all there, how many of that one's (see `through`).
    """
    own = _own(known)
    return {
        (model, version): own[model, one]
        for model in {name for name, _ in own}
        for version, line in descent.lines(known, model).items()
        for one in [next((one for one in (version, *line) if (model, one) in own), None)]
        if one is not None
    }


def through(known: Sequence[Event], model: str, version: int) -> int | None:
    """The version that one started from, directly or through others, and by which alone it learned
    from who has withdrawn; None: it learned from them itself, or not at all.
    """
    own = _own(known)
    if (model, version) in own:
        return None
    line = descent.ancestors(known, model, version)
    return next((one for one in line if (model, one) in own), None)


def _own(known: Sequence[Event]) -> dict[tuple[str, int], int]:
    """How many exams of a version's own dataset version were erased; those of none left out."""
    found = {}
    for event in known:
        if event.action == events.MODEL_REGISTERED:
            name, version = event.payload["model"], event.payload["version"]
            count = exams_withdrawn(known, name, event.payload["dataset_version"])
            if count:
                found[name, int(version)] = count
    return found


def barred_as_told(known: Iterable[Event], workspace: Workspace, dataset: str) -> bool:
    """Whether the list of who is barred from a dataset is as its last withdrawal left it.

    True while a withdrawal is under way: it extends the list before the ledger can tell of it.
    """
    past = of_dataset(known, dataset)
    if any(event.action == events.WITHDRAWAL_BEGUN for event in past):
        return True
    last = max(past, key=lambda event: event.number, default=None)
    return barred.digest(workspace, dataset) == (last.payload["barred"] if last else "")


def _erasures(known: Iterable[Event]) -> list[list[Erased]]:
    """What each withdrawal says it erased, in the order in which they began."""
    found: dict[str, list[Erased]] = {}
    for event in known:
        if event.action in (events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED):
            found.setdefault(event.payload["withdrawal"], []).extend(event.payload["erased"])
    return [*found.values()]

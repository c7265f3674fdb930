"""Whether the provenance was recomputed from the bytes, and whether the version was rebuilt."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from keyslice.audit.subject import Subject, when
from keyslice.provenance import events
from keyslice.provenance.evidence import Item

_FILES = ("data", "results")
"""Parts whose faults name files; some of these are a person's, so they are counted, not named."""
_FAULTS = ("altered", "missing")


def verification(one: Subject, found: Sequence[Item] | None) -> dict[str, Any] | None:
    """What `keyslice verify` found, for JSON; None: it was not run for this audit."""
    if found is None:
        return None
    counts = Counter(item.state for item in found)
    return {
        "sound": not any(counts[state] for state in _FAULTS),
        "states": {state: counts[state] for state in ("sound", "altered", "missing", "unseen")},
        "items": [*_named(one, found), *_counted(found)],
    }


def _named(one: Subject, found: Sequence[Item]) -> list[dict[str, Any]]:
    root = str(one.workspace.root)  # whose home it lies in is nobody's business
    return [
        {
            "part": item.part,
            "what": item.what,
            "state": item.state,
            "detail": item.detail.replace(root, "…"),
            "items": 1,
        }
        for item in found
        if item.part not in _FILES or item.state not in _FAULTS
    ]


def _counted(found: Sequence[Item]) -> list[dict[str, Any]]:
    groups = Counter(
        (item.part, item.state, item.detail)
        for item in found
        if item.part in _FILES and item.state in _FAULTS
    )
    return [
        {
            "part": part,
            "what": "1 file" if number == 1 else f"{number} files",
            "state": state,
            "detail": detail,
            "items": number,
        }
        for (part, state, detail), number in groups.items()
    ]


def reproductions(one: Subject) -> list[dict[str, Any]]:
    """Each time that the version was rebuilt, for JSON."""
    names = ("outcome", "words", "difference", "epochs", "platform", "libraries")
    return [
        {
            "event": event.number,
            "time": when(event.time),
            "by": event.actor,
            **{name: event.payload.get(name) for name in names},
        }
        for event in one.own
        if event.action == events.MODEL_REPRODUCED
    ]

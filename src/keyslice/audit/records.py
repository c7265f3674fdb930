"""The events that the audit rests on, and where the ledger stood."""

from typing import Any

from keyslice.audit.subject import Subject, when
from keyslice.provenance import events
from keyslice.provenance.ledger import Event
from keyslice.registry import chronicle

_WORDS = {
    events.DATASET_VERSIONED: "the data became a version",
    events.RUN_STARTED: "the change plan was fixed, before training",
    events.MODEL_REGISTERED: "registered",
    events.CHALLENGER_MOVED: "became the candidate again",
    events.GATE_EVALUATED: "went through the gate",
    events.MODEL_APPROVED: "approved",
    events.MODEL_REJECTED: "rejected",
    events.CHAMPION_MOVED: "the champion changed",
    events.WITHDRAWAL_BEGUN: "a withdrawal from its data began",
    events.WITHDRAWAL_COMPLETED: "a withdrawal from its data was completed",
    events.MODEL_REPRODUCED: "rebuilt",
}


def records(one: Subject) -> dict[str, Any]:
    """For JSON: the last event of all, and those that this version is concerned by."""
    last = one.events[-1]
    return {
        "head": {"event": last.number, "hash": last.hash},
        "events": [_event(event) for event in one.events if _concerns(event, one)],
    }


def _concerns(event: Event, one: Subject) -> bool:
    told = event.payload
    if event.action == events.DATASET_VERSIONED:
        return told["version"] == one.told["dataset_version"]
    if event.action == events.RUN_STARTED:
        planned = chronicle.plan_before_training(list(one.events), one.registered)
        return event == planned
    if event.action in (events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED):
        return told["dataset"] == one.model and one.version in told["models"]
    if event.action == events.CHAMPION_MOVED:
        return told["model"] == one.model and one.version in (told["from"], told["to"])
    same = told.get("model") == one.model and told.get("version") == one.version
    return same and event.action in _WORDS


def _event(event: Event) -> dict[str, Any]:
    words = _WORDS[event.action]
    if event.action == events.GATE_EVALUATED:
        words = f"{event.payload['outcome']} the gate"
    if event.action == events.CHAMPION_MOVED:
        names = (
            "none" if v is None else f"version {v}"
            for v in (event.payload["from"], event.payload["to"])
        )
        words = f"champion: {' → '.join(names)} ({event.payload['because']})"
    if event.payload.get("override"):
        words += ", overriding the gate"
    return {
        "event": event.number,
        "time": when(event.time),
        "by": event.actor,
        "words": words,
        "action": event.action,
        "hash": event.hash,
    }

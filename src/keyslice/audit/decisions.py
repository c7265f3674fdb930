"""Who decided what about the version, and when any version was champion."""

from typing import Any

from keyslice.audit.subject import Subject, when
from keyslice.provenance import events, standing
from keyslice.provenance.ledger import Event
from keyslice.provenance.standing import Reign

_DECISIONS = {events.MODEL_APPROVED: "approved", events.MODEL_REJECTED: "rejected"}


def decisions(one: Subject) -> dict[str, Any]:
    """Of the version, for JSON; the alias's history is that of the whole model."""
    by_number = {event.number: event for event in one.events}
    past = standing.reigns(one.events, one.model)
    return {
        "decisions": [_decision(e) for e in one.own if e.action in _DECISIONS],
        "reigns": [_reign(reign, by_number, one.version) for reign in past],
        "champion": standing.champion(one.events, one.model),
        "anchor": standing.anchor(one.events, one.model),
    }


def _decision(event: Event) -> dict[str, Any]:
    told, signed = event.payload, event.payload["signature"]
    return {
        "event": event.number,
        "time": when(event.time),
        "verdict": _DECISIONS[event.action],
        "by": event.actor,
        "reason": told["reason"],
        "gate": told["gate"],
        "override": list(told.get("override", [])),
        "signed": signed is not None,
        "signed_by": signed["principal"] if signed else None,
    }


def _reign(reign: Reign, by_number: dict[int, Event], version: int) -> dict[str, Any]:
    told = reign.moved.payload
    decision = by_number.get(told["decision"] or 0)
    overridden = decision is not None and bool(decision.payload.get("override"))
    return {
        "event": reign.moved.number,
        "version": reign.version,
        "own": reign.version == version,
        "since": when(reign.since),
        "until": when(reign.until) if reign.until else None,
        "because": told["because"],
        "reason": told.get("reason", ""),
        "by": reign.moved.actor,
        "overridden": overridden,
    }

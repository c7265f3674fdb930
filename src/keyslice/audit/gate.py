"""The change plan, and how the version did at the gate."""

from typing import Any

from keyslice.audit.subject import Subject, when
from keyslice.provenance import events, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import chronicle

_FACTS = (
    "outcome",
    "plan_sha256",
    "dataset_version",
    "test",
    "test_exams",
    "look",
    "looks",
    "alpha",
    "champion",
    "anchor",
    "approval",
    "power",
    "warnings",
)


def gate(one: Subject) -> dict[str, Any]:
    """Of the version, for JSON: the plan that counted, the last gate in full, and those before."""
    passed = [event for event in one.own if event.action == events.GATE_EVALUATED]
    last = standing.gate(one.events, one.model, one.version)
    planned = chronicle.plan_before_training(list(one.events), one.registered)
    return {
        "plan": _plan(planned),
        "plan_matches": last and planned and _same(last, planned),
        "last": _gate(last),
        "criteria": None if last is None else last.payload["criteria"],
        "all": [_gate(event) for event in passed],
    }


def _plan(event: Event | None) -> dict[str, Any] | None:
    """That was fixed before training; None: none was."""
    if event is None:
        return None
    return {
        "event": event.number,
        "time": when(event.time),
        "by": event.actor,
        "sha256": event.payload["plan_sha256"],
        "settings": event.payload["plan"],
    }


def _same(last: Event, planned: Event) -> bool:
    return last.payload["plan_sha256"] == planned.payload["plan_sha256"]


def _gate(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    told = {name: event.payload[name] for name in _FACTS}
    return {"event": event.number, "time": when(event.time)} | told

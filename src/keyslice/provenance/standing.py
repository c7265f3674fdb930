"""How a model stands by the ledger: champion, anchor, gates, decisions; all functions are pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from keyslice.provenance import events
from keyslice.provenance.ledger import Event

DECISIONS = (events.MODEL_APPROVED, events.MODEL_REJECTED)


@dataclass(frozen=True)
class Reign:
    """A version's time as champion."""

    version: int | None
    """None: the alias was taken away."""
    since: datetime
    until: datetime | None
    """None: it is the champion now."""
    moved: Event


def of_model(found: Iterable[Event], model: str) -> list[Event]:
    """The events about a model, its versions, or its decisions, in their order."""
    return [event for event in found if event.payload.get("model") == model]


def reigns(found: Iterable[Event], model: str) -> list[Reign]:
    """Every champion the model has had, the first one first."""
    moves = [
        event
        for event in of_model(found, model)
        # A restoration puts the alias back to who is champion already.
        if event.action == events.CHAMPION_MOVED and event.payload["because"] != "restoration"
    ]
    ends: list[datetime | None] = [move.time for move in moves[1:]]
    return [
        Reign(move.payload["to"], move.time, until, move)
        for move, until in zip(moves, [*ends, None], strict=False)
    ]


def champion(found: Iterable[Event], model: str) -> int | None:
    """The version that is champion now."""
    past = reigns(found, model)
    return past[-1].version if past else None


def champion_at(found: Iterable[Event], model: str, moment: datetime) -> Reign | None:
    """Who was champion at a moment; None: nobody yet."""
    before = [reign for reign in reigns(found, model) if reign.since <= moment]
    return before[-1] if before else None


def anchor(found: Iterable[Event], model: str) -> int | None:
    """The champion that a person chose last, by approval or by rollback; else the first one.

    Margins of automatic promotions do not add up while every challenger must hold against it, too.
    """
    found = list(found)
    by_number = {event.number: event for event in found}
    past = reigns(found, model)
    for reign in reversed(past):
        payload = reign.moved.payload
        decision = by_number.get(payload["decision"] or 0)
        approved = decision is not None and decision.action == events.MODEL_APPROVED
        if reign.version is not None and (approved or payload["because"] == "rollback"):
            return reign.version
    return next((reign.version for reign in past if reign.version is not None), None)


def last_version(found: Iterable[Event], dataset: str) -> Event | None:
    """The event of the version that a dataset became last; None: the ledger tells of none."""
    told = [
        event
        for event in found
        if event.action == events.DATASET_VERSIONED and event.payload["dataset"] == dataset
    ]
    return told[-1] if told else None


def registered(found: Iterable[Event], model: str, version: int) -> Event | None:
    """The event of a version's registration."""
    return _last(found, model, version, (events.MODEL_REGISTERED,))


def challenger(found: Iterable[Event], model: str) -> int | None:
    """The candidate of the last retraining."""
    actions = (events.MODEL_REGISTERED, events.CHALLENGER_MOVED)
    own = [event for event in of_model(found, model) if event.action in actions]
    return own[-1].payload["version"] if own else None


def gate(found: Iterable[Event], model: str, version: int) -> Event | None:
    """The last gate that a version went through."""
    return _last(found, model, version, (events.GATE_EVALUATED,))


def decision(found: Iterable[Event], model: str, version: int) -> Event | None:
    """The last approval or rejection of a version."""
    return _last(found, model, version, DECISIONS)


def unfinished(found: Iterable[Event], model: str) -> Event | None:
    """What was decided and not carried out, because a process ended in between; None: nothing.

    The intent of a move that never came to its end, or a decision that no intent followed: an
    approval, or a passed gate where nobody has to approve.
    """
    own = of_model(found, model)
    ends = (events.CHAMPION_MOVED, events.CHAMPION_STAYED)
    done = {e.payload["intent"] for e in own if e.action in ends}
    acted = {e.payload["decision"] for e in own if e.action == events.CHAMPION_MOVING}
    for event in reversed(own):
        if event.action == events.CHAMPION_MOVING:
            return None if event.number in done else event
        if event.action in (*ends, events.MODEL_REJECTED):
            return None
        automatic = (
            event.action == events.GATE_EVALUATED
            and event.payload["outcome"] == "passed"
            and event.payload["approval"] == "automatic"
            # Else another has become champion while it ran: nothing was shown against that one.
            and event.payload["champion"] == champion(own, model)
        )
        if event.action == events.MODEL_APPROVED or automatic:
            return None if event.number in acted else event
        if event.action == events.GATE_EVALUATED:
            return None  # a later gate that decides nothing by itself
    return None


def _last(found: Iterable[Event], model: str, version: int, actions: Sequence[str]) -> Event | None:
    own = [e for e in of_model(found, model) if e.action in actions]
    return next((e for e in reversed(own) if e.payload["version"] == version), None)

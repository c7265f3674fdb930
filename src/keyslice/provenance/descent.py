"""Which version of a model another one's training started from; all functions are pure.

What a version learned from, those that started from it have learned from, too.
"""

from collections.abc import Iterable, Mapping

from keyslice import initial
from keyslice.provenance import events, standing
from keyslice.provenance.ledger import Event


def parent(registered: Event) -> int | None:
    """The version whose network a version started from; None: it started from none.

    The payload says `started_from`: `scratch`, or a version as `liver/3`. Versions from before
    there was a choice have no such entry.
    """
    told = registered.payload.get("started_from") or initial.SCRATCH
    return None if told == initial.SCRATCH else int(told.rpartition("/")[2])


def lines(found: Iterable[Event], model: str) -> dict[int, list[int]]:
    """For each version the one that it started from, the one that this had started from, …"""
    parents = {
        int(event.payload["version"]): parent(event)
        for event in standing.of_model(found, model)
        if event.action == events.MODEL_REGISTERED
    }
    return {version: _line(parents, version) for version in parents}


def ancestors(found: Iterable[Event], model: str, version: int) -> list[int]:
    """`lines` of one version."""
    return lines(found, model).get(version, [])


def descendants(found: Iterable[Event], model: str, versions: Iterable[int]) -> list[int]:
    """All others that started from one of these versions, directly or through others."""
    versions = set(versions)
    known = lines(found, model)
    return sorted(v for v, line in known.items() if v not in versions and versions & {*line})


def _line(parents: Mapping[int, int | None], version: int) -> list[int]:
    line: list[int] = []
    following = parents.get(version)
    while following is not None and following not in line:
        line.append(following)
        following = parents.get(following)
    return line

"""From a model's version to the exams it was made from, and from an exam to the models.

What was made of what, and who decided, is the ledger's; who was in it, the kept manifests'.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import barred
from keyslice.exams.split import SPLITS
from keyslice.provenance import descent, events, membership, standing, withdrawn
from keyslice.provenance.ledger import Event
from keyslice.provenance.membership import Column, DatasetVersion, Held, Row, Size
from keyslice.provenance.standing import Reign

_NAMED = 4
"""Exams listed where several are meant."""


@dataclass(frozen=True)
class Made:
    """A version of a model, and its time as champion."""

    version: int
    dataset_version: str
    registered: Event
    gate: Event | None
    reigns: tuple[Reign, ...]


@dataclass(frozen=True)
class ModelLineage:
    """Where a version of a model came from, and what became of it."""

    registered: Event
    source: DatasetVersion
    splits: dict[str, Size] | None
    """What is left of the exams; None: their manifest is not kept."""
    rows: tuple[Row, ...]
    gates: tuple[Event, ...]
    decisions: tuple[Event, ...]
    reigns: tuple[Reign, ...]
    withdrawals: tuple[Event, ...]
    reproductions: tuple[Event, ...]
    started_from: tuple[int, ...]
    """The version whose network its training started from, the one that this had started from, …"""
    descendants: tuple[int, ...]
    """Versions that started from it, directly or through others."""


@dataclass(frozen=True)
class DatasetLineage:
    """What a version of a dataset holds, what it followed on, and what was made from it."""

    version: DatasetVersion
    previous: str | None
    """None: it is the first one known."""
    splits: dict[str, Size] | None
    rows: tuple[Row, ...]
    models: tuple[Made, ...]
    inherited: tuple[Made, ...]
    """Made from other versions of it, but started from one of `models`."""
    withdrawals: tuple[Event, ...]


@dataclass(frozen=True)
class History:
    """All versions of a dataset, and of the model that is named as it."""

    dataset: str
    versions: tuple[DatasetVersion, ...]
    models: tuple[Made, ...]


@dataclass(frozen=True)
class Trace:
    """Where an exam or a patient has been, in one dataset."""

    dataset: str
    id: str
    """Of the exam, or the patient's pseudonym."""
    held: tuple[Held, ...]
    """Versions with rows of it, in their order."""
    asked: int
    """How many versions were looked through."""
    unkept: tuple[DatasetVersion, ...]
    """Versions that could not be: their manifests are not kept."""
    models: tuple[Made, ...]
    """Made from a version that held it."""
    inherited: tuple[Made, ...]
    """Made from versions that did not, but started from one of `models`: they learned from it."""
    withdrawn: bool
    withdrawals: tuple[Event, ...]
    """If withdrawn, those that it may have been: the ledger does not say who."""


def model(workspace: Workspace, found: Sequence[Event], registered: Event) -> ModelLineage:
    """Of the version whose registration this is.

    Raises:
        UserError: the manifest kept of its dataset version is damaged.
    """
    name, version = registered.payload["model"], registered.payload["version"]
    own = [e for e in standing.of_model(found, name) if e.payload.get("version") == version]
    known = membership.versions(workspace, found, name)
    wanted = registered.payload["dataset_version"]
    source = next(
        (one for one in known if one.version == wanted),
        DatasetVersion(name, wanted, None, None, kept=False),
    )
    rows = membership.rows(workspace, source) if source.kept else []
    return ModelLineage(
        registered,
        source,
        _splits(rows) if source.kept else None,
        tuple(rows),
        gates=_of(own, events.GATE_EVALUATED),
        decisions=_of(own, events.MODEL_APPROVED, events.MODEL_REJECTED),
        reigns=tuple(r for r in standing.reigns(found, name) if r.version == version),
        withdrawals=tuple(
            event
            for event in withdrawn.of_dataset(found, name)
            if wanted in event.payload["versions"]
        ),
        reproductions=_of(own, events.MODEL_REPRODUCED),
        started_from=tuple(descent.ancestors(found, name, version)),
        descendants=tuple(descent.descendants(found, name, [version])),
    )


def dataset(
    workspace: Workspace, found: Sequence[Event], version: DatasetVersion
) -> DatasetLineage:
    """Of a version of a dataset.

    Raises:
        UserError: its kept manifest is damaged.
    """
    known = [one.version for one in membership.versions(workspace, found, version.dataset)]
    place = known.index(version.version)
    before = known[place - 1] if place else None
    if version.event is not None:
        before = version.event.payload["previous"] or None
    rows = membership.rows(workspace, version) if version.kept else []
    made = _made(found, version.dataset)
    from_it = tuple(one for one in made if one.dataset_version == version.version)
    return DatasetLineage(
        version,
        before,
        _splits(rows) if version.kept else None,
        tuple(rows),
        from_it,
        _inherited(found, version.dataset, made, from_it),
        tuple(
            event
            for event in withdrawn.of_dataset(found, version.dataset)
            if version.version in event.payload["versions"]
        ),
    )


def history(workspace: Workspace, found: Sequence[Event], name: str) -> History:
    """Of a dataset, and of its model."""
    known = tuple(membership.versions(workspace, found, name))
    return History(name, known, _made(found, name))


def exam(workspace: Workspace, found: Sequence[Event], beginning: str) -> list[Trace]:
    """Of the exam whose id begins so, in each dataset that has or had it.

    Raises:
        UserError: no exam's id begins so, or those of several do; or a kept manifest or the list
            of who is barred is damaged.
    """
    names = membership.datasets(workspace, found)
    gone = {name: barred.read(workspace, name).exams for name in names}
    held = {name: _holding(workspace, found, name, "exam_id", beginning) for name in names}
    ids = {row.exam for some in held.values() for one in some for row in one.rows}
    ids |= {one for some in gone.values() for one in some if one.startswith(beginning)}
    if not ids:
        raise UserError(
            f"no version of a dataset has an exam whose id begins with {beginning}",
            rule=f"{len(names)} datasets were looked through, by their kept manifests",
            remedy="ids are the names of the files in data/exams/DATASET",
        )
    one = _only(ids, "exams", beginning)
    return [
        _trace(workspace, found, name, one, held[name], one in gone[name])
        for name in names
        if held[name] or one in gone[name]
    ]


def patient(workspace: Workspace, found: Sequence[Event], sought: "dict[str, str]") -> list[Trace]:
    """Of a patient, in each dataset asked that has or had an exam of theirs.

    Args:
        workspace: that keeps the manifests.
        found: all events.
        sought: for each dataset the pseudonym, or the beginning of one.

    Raises:
        UserError: the pseudonyms of several patients begin so; or a kept manifest or the list of
            who is barred is damaged.
    """
    traces = []
    for name, beginning in sought.items():
        gone = {p for p in barred.read(workspace, name).patients if p.startswith(beginning)}
        held = _holding(workspace, found, name, "patient", beginning)
        if ids := gone | {row.patient for one in held for row in one.rows}:
            one = _only(ids, "patients", beginning)
            traces.append(_trace(workspace, found, name, one, held, one in gone))
    return traces


def _holding(
    workspace: Workspace, found: Sequence[Event], name: str, column: Column, beginning: str
) -> list[Held]:
    known = membership.versions(workspace, found, name)
    return membership.holding(workspace, known, column, beginning)


def _only(ids: set[str], what: str, beginning: str) -> str:
    """Raises UserError: it is not the only one."""
    if len(ids) > 1:
        some = ", ".join(sorted(ids)[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
        raise UserError(
            f"{len(ids)} {what} begin with {beginning}",
            rule=f"one is asked for: {some}",
            remedy="give more digits",
        )
    return next(iter(ids))


def _trace(
    workspace: Workspace,
    found: Sequence[Event],
    name: str,
    one: str,
    held: list[Held],
    barred: bool,
) -> Trace:
    known = membership.versions(workspace, found, name)
    within = {some.version.version for some in held}
    made = _made(found, name)
    models = tuple(version for version in made if version.dataset_version in within)
    return Trace(
        name,
        one,
        tuple(held),
        sum(version.kept for version in known),
        tuple(version for version in known if not version.kept),
        models,
        _inherited(found, name, made, models),
        barred,
        tuple(withdrawn.of_dataset(found, name)) if barred else (),
    )


def _made(found: Sequence[Event], name: str) -> tuple[Made, ...]:
    own = standing.of_model(found, name)
    reigns = standing.reigns(own, name)
    gates = {e.payload["version"]: e for e in own if e.action == events.GATE_EVALUATED}
    return tuple(
        Made(
            version := event.payload["version"],
            event.payload["dataset_version"],
            event,
            gates.get(version),
            tuple(reign for reign in reigns if reign.version == version),
        )
        for event in own
        if event.action == events.MODEL_REGISTERED
    )


def _inherited(
    found: Sequence[Event], name: str, made: Iterable[Made], models: Iterable[Made]
) -> tuple[Made, ...]:
    """Those of `made` that started from one of `models`, which they are not."""
    numbers = descent.descendants(found, name, [one.version for one in models])
    return tuple(one for one in made if one.version in numbers)


def _splits(rows: Sequence[Row]) -> dict[str, Size]:
    return {split: membership.size(r for r in rows if r.split == split) for split in SPLITS}


def _of(some: Sequence[Event], *actions: str) -> tuple[Event, ...]:
    return tuple(event for event in some if event.action in actions)

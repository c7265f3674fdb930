"""A patient withdraws: barred from every later version, and erased from every earlier one.

An exam's object in DVC's cache and remotes becomes a tombstone under the same md5, a table loses
their rows, a shard their pixels: everything else of an old version comes back as it was. What is to
be done is noted in state/withdrawals first and each step may be done twice, so a withdrawal that
was cut off is taken up again, by `resume` or by being asked for again. The ledger is told the md5
and the new SHA-256 of all that is erased, and never who.

Payload of both events: withdrawal (an id of its own), dataset, reason, exams, versions {version:
their exams in it}, models, champion, erased: [{md5, kind, was, replaced_by}] (SHA-256 before and
after); of the second also version (of the dataset, now) and barred (SHA-256 of the list).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keyslice import files, versioning
from keyslice.config import Params, Workspace, load
from keyslice.errors import UserError
from keyslice.exams import barred, fingerprint, manifest, manifest_columns
from keyslice.exams.barred import Barred
from keyslice.exams.lock import dataset_lock, locked
from keyslice.provenance import erasure, events, heads, ledger, purge, versions
from keyslice.provenance.erasure import Item
from keyslice.provenance.reproduction import REPRODUCTION
from keyslice.provenance.traces import (
    Part,
    Plan,
    entry_of,
    manifests,
    survey,
    unique,
)
from keyslice.provenance.withdrawn import Erased, notes
from keyslice.stages.running import only_retraining, under_way
from keyslice.versioning import lock, objects
from keyslice.versioning.objects import Store


@dataclass(frozen=True)
class Done:
    """A withdrawal that was completed.

    Args:
        plan: that was carried out.
        versions: of each dataset, now.
    """

    plan: Plan
    versions: dict[str, str]

    @property
    def patients(self) -> dict[str, str]:
        """The pseudonym, by dataset."""
        return {part.dataset: part.patient for part in self.plan.parts}


def plan(
    workspace: Workspace,
    patients: Mapping[str, str],
    reason: str,
    *,
    only: str | None = None,
    also: Mapping[str, Barred] | None = None,
) -> Plan:
    """Find what a withdrawal would touch; changes nothing.

    Args:
        workspace: that the patient withdraws from.
        patients: the pseudonym in each dataset.
        reason: for the ledger.
        only: restrict it to this dataset.
        also: other pseudonyms of theirs, and the keys; see `patients.Person.also`.

    Raises:
        UserError: a remote's folder is not there, or the ledger is damaged.
        RunError: a remote cannot be reached.
    """
    with objects.stores(workspace) as stores:
        return survey(workspace, stores, patients, reason, only, also)


def withdraw(
    workspace: Workspace,
    patients: Mapping[str, str],
    reason: str,
    *,
    only: str | None = None,
    also: Mapping[str, Barred] | None = None,
) -> Done:
    """Carry a withdrawal out, or take one up that was cut off; see `plan`.

    Raises:
        UserError: a dataset is being retrained, or its exams are not here; nothing was changed.
            Or see `plan`.
        RunError: DVC failed; asked again, it goes on.
    """
    cut_off = {part.dataset for note in notes(workspace) for part in _read(note).parts}
    with _alone(workspace, {*patients, *cut_off}):
        taken_up = [_take_up(workspace, note) for note in notes(workspace)]
        _check_here(workspace, patients, also or {})
        with objects.stores(workspace) as stores:
            found = survey(workspace, stores, patients, reason, only, also)
            if found.empty and is_barred(workspace, patients):
                # Done already, or just now: it was this one that had been cut off.
                same = [done for done in taken_up if patients.items() <= done.patients.items()]
                return same[-1] if same else Done(found, _versions(workspace, found))
            _write(workspace, found)
            return _carry_out(workspace, found, stores)


def is_barred(workspace: Workspace, patients: Mapping[str, str]) -> bool:
    """Whether a patient is on the list of each of these datasets."""
    return all(one in barred.read(workspace, name).patients for name, one in patients.items())


def resume(workspace: Workspace) -> list[Done]:
    """Complete what a kill cut off; does nothing, at no cost, where nothing was.

    Asked by whatever changes datasets, models or aliases, before it takes a lock of its own.

    Raises:
        UserError, RunError: as `withdraw`.
    """
    done: list[Done] = []
    if not notes(workspace):
        return done
    with locked(workspace, "withdrawal", "keyslice withdraw"):  # one under way is waited for
        names = {part.dataset for note in notes(workspace) for part in _read(note).parts}
    with _alone(workspace, names):
        done += [_take_up(workspace, note) for note in notes(workspace)]
    return done


@contextmanager
def _alone(workspace: Workspace, names: Iterable[str]) -> Iterator[None]:
    """Nothing is ingested, prepared, trained, registered, judged or rebuilt meanwhile.

    Raises:
        UserError: something of it runs; names it.
    """
    names = sorted(names)
    with ExitStack() as held:
        held.enter_context(locked(workspace, "withdrawal", "keyslice withdraw"))
        held.enter_context(only_retraining(workspace, names, "keyslice withdraw"))
        held.enter_context(locked(workspace, REPRODUCTION, "keyslice withdraw", patience=0))
        for name in names:
            held.enter_context(dataset_lock(workspace, name, "withdraw"))
        for one in under_way(workspace):
            if versioning.dataset_of(one.name) in names:
                raise UserError(
                    f"{one.name} is running, by {one.holder}",
                    rule="nothing reads the exams while a patient's are erased",
                    remedy="wait for it, or end that process",
                )
        yield


def _check_here(
    workspace: Workspace, patients: Mapping[str, str], also: Mapping[str, Barred]
) -> None:
    """Raises UserError: a new version must be made, and the exams that it is made of are away."""
    for name, patient in patients.items():
        version = lock.version(workspace, name)
        if version is None or workspace.manifest(name).is_file():
            continue
        path = manifests(workspace, name).get(version)
        who = Barred(frozenset([patient])) | also.get(name, Barred())
        if path is None or erasure.exams_in(path, who):
            raise UserError(
                f"the exams of {name} are not here",
                rule="the version without the patient is made of the others'",
                remedy=f"dvc pull {workspace.pointer(name).relative_to(workspace.root)}",
            )


def _note(workspace: Workspace, found: Plan) -> Path:
    """Says who; it is gone when the withdrawal is complete."""
    return workspace.state / "withdrawals" / f"{found.id}.json"


def _write(workspace: Workspace, found: Plan) -> None:
    files.write_text(_note(workspace, found), found.dumps(), mode=barred.MODE)


def _read(note: Path) -> Plan:
    try:
        return Plan.loads(note.read_text(encoding="utf-8"))
    except (ValueError, LookupError, TypeError):
        raise UserError(
            "is no note of a withdrawal",
            where=f"state/withdrawals/{note.name}",
            rule="it says what is still to be erased",
            remedy="restore it from the backup of state/; or, if nobody had begun one, remove it",
        ) from None


def _take_up(workspace: Workspace, note: Path) -> Done:
    """Go on with what was cut off: what was planned, and what has come since or is left."""
    then = _read(note)
    patients = {part.dataset: part.patient for part in then.parts}
    with objects.stores(workspace) as stores:
        also = {p.dataset: Barred(then.ban.patients, keys=frozenset(p.keys)) for p in then.parts}
        now = survey(workspace, stores, patients, then.reason, then.only, also)
        parts = tuple(
            replace(
                old,
                exams=tuple(sorted({*old.exams, *new.exams})),
                versions=new.versions | old.versions,
                present=old.present or new.present,
                models=tuple(sorted({*old.models, *new.models})),
                champion=old.champion if old.champion is not None else new.champion,
            )
            for old, new in zip(then.parts, now.parts, strict=True)
        )
        items = tuple(sorted({*then.items, *now.items}))
        erased = unique([*then.erased, *now.erased])
        whole = replace(then, parts=parts, ban=then.ban | now.ban, items=items, erased=erased)
        _write(workspace, whole)
        return _carry_out(workspace, whole, stores)


def _carry_out(workspace: Workspace, found: Plan, stores: Sequence[Store]) -> Done:
    """Every step in turn; each may have been done already."""
    params = load(workspace.params)
    begun = _begin(workspace, found)
    for part in found.parts:
        names = frozenset([part.patient, *part.aliases])
        mine = Barred(names, frozenset(part.exams), frozenset(part.keys))
        barred.add(workspace, part.dataset, mine)
    for part in found.parts:
        if part.present:
            _new_version(workspace, params, part.dataset, found.ban)
    erased = [*found.erased]
    erased += [
        _erase(store, path, item, found.ban)
        for item in found.items
        for store in stores
        for path in store.find(item.md5)
    ]
    for store in stores:
        store.flush()
    for part in found.parts:
        erased += purge.kept_manifests(workspace, part.dataset, found.ban)
        purge.initial_networks(workspace, part.dataset, part.models)
        if part.exams:
            purge.derived(workspace, part.dataset, found.ban)
    if found.exams:
        purge.state(workspace, found)
    made = _versions(workspace, found)
    _complete(workspace, found, begun, unique(erased), made)
    _note(workspace, found).unlink(missing_ok=True)
    for hidden in _note(workspace, found).parent.glob(".*"):  # a note that a kill cut off
        hidden.unlink()
    return Done(replace(found, erased=unique(erased)), made)


def _versions(workspace: Workspace, found: Plan) -> dict[str, str]:
    return {p.dataset: lock.version(workspace, p.dataset) or "" for p in found.parts}


def _begin(workspace: Workspace, found: Plan) -> dict[str, int]:
    """Tell the ledger before the first byte changes; the event's number, by dataset."""
    with ledger.exclusive(workspace):
        told = _told(workspace, found, events.WITHDRAWAL_BEGUN)
        for part in found.parts:
            if part.dataset not in told:
                payload = _payload(found, part, found.erased)
                event = ledger.append(workspace, events.WITHDRAWAL_BEGUN, part.dataset, payload)
                told[part.dataset] = event.number
        heads.note(workspace)
    return told


def _complete(
    workspace: Workspace,
    found: Plan,
    begun: Mapping[str, int],
    erased: tuple[Erased, ...],
    made: Mapping[str, str],
) -> None:
    with ledger.exclusive(workspace):
        told = _told(workspace, found, events.WITHDRAWAL_COMPLETED)
        for part in found.parts:
            if part.dataset not in told:
                payload = _payload(found, part, erased) | {
                    "begun": begun[part.dataset],
                    "version": made[part.dataset],
                    "barred": barred.digest(workspace, part.dataset),
                }
                ledger.append(workspace, events.WITHDRAWAL_COMPLETED, part.dataset, payload)
        heads.note(workspace)


def _told(workspace: Workspace, found: Plan, action: str) -> dict[str, int]:
    """Numbers of the events of this withdrawal that the ledger has, by dataset."""
    return {
        event.payload["dataset"]: event.number
        for event in ledger.read(workspace)
        if event.action == action and event.payload["withdrawal"] == found.id
    }


def _payload(found: Plan, part: Part, erased: tuple[Erased, ...]) -> dict[str, Any]:
    return {
        "withdrawal": found.id,
        "dataset": part.dataset,
        "reason": found.reason,
        "exams": len(part.exams),
        "versions": part.versions,
        "models": [*part.models],
        "champion": part.champion is not None,
        # Objects are erased wherever they lie: what dataset they came from is not told by them.
        "erased": [*erased] if part.exams or not found.exams else [],
    }


def _new_version(workspace: Workspace, params: Params, name: str, ban: Barred) -> None:
    """The dataset without them: rows, files, and what was noted of their files."""
    from keyslice.exams.ingestion import sweep  # every reader

    path = workspace.manifest(name)
    before = lock.version(workspace, name)
    rows = manifest.rows(manifest.read(path)).values()
    left = [row for row in rows if not ban.bars(row)]
    manifest.write(manifest.frame(left), path, manifest_columns.read_identity(path))
    sweep(workspace, name, (row["exam_id"] for row in left))
    fingerprint.forget(workspace, name, ban.exams)
    versions.record(workspace, params, name, before)


def _erase(store: Store, path: Path, item: Item, ban: Barred) -> Erased:
    entry = entry_of(path, item, ban)
    if entry["was"] != entry["replaced_by"]:
        store.replace(path, erasure.without(path, item, ban))
    return entry

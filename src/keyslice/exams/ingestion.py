"""From a source to the set of exams and its manifest: what is new is added, nothing else moves.

Exams are written first, each under its content's name; the manifest follows in one step, and what
was found is noted at the very end. A process that is killed in between leaves the old dataset or
the new one, and running again completes it.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keyslice.config import FolderDataset, Limits, Workspace
from keyslice.config.datasets import Dataset
from keyslice.errors import UserError
from keyslice.exams import (
    barred,
    fingerprint,
    history,
    manifest,
    manifest_columns,
    offer,
    origin,
    quarantine,
)
from keyslice.exams.exam import exam_name
from keyslice.exams.fingerprint import Note
from keyslice.exams.intake import Intake, Row
from keyslice.exams.keyring import Keyring
from keyslice.exams.lock import dataset_lock
from keyslice.exams.offer import Offer
from keyslice.exams.quarantine import Refusal
from keyslice.exams.split import split_rows
from keyslice.exams.stored import Stored
from keyslice.exams.workers import Workers

Progress = Callable[[int, int], None]
"""Called with the number of exams read so far, and of all."""
OWN = re.compile(
    r"[0-9a-f]{32}\.zip"
    r"|\.([0-9a-f]{32}|manifest)-[0-9a-f]{8}\.(zip|parquet)"  # not yet in its place, cut off
    r"|\.[\w-]{22}\.tmp"  # DVC, cut off
)
"""Names in a dataset's folder that are for an ingestion to remove."""


@dataclass(frozen=True)
class IngestReport:
    """What became of every file that the source holds.

    found = accepted + present + duplicates + waiting + left_out + quarantined + arriving + barred +
    skipped, all of them files. An exam may be of many; `exams` and what follows it counts exams.

    Args:
        dataset: its name.
        found: files in the source, those that archives hold among them.
        accepted: of exams that are new in the dataset.
        present: of exams that were in it before.
        duplicates: of the same content as another exam, of the same patient and label.
        waiting: of exams without a label that they could be taken in with.
        left_out: of exams of a class with too few patients; they wait, too.
        quarantined: refused.
        arriving: still being written.
        barred: of patients who have withdrawn, or of exams that were erased for them.
        skipped: no exams.
        exams: in the dataset now.
        across_splits: duplicates that another official split has.
        relabelled: with another label than before.
        removed: in the dataset before, no longer in it.
        unused_lines: of the table of labels, that name nothing that was found.
        batch: ordinal of the new batch; None where no exam is new.
        manifest_sha256: of the manifest.
        refused: the quarantine list as it stands.
        waits: name and reason of what waits.
        shut: names of what is barred.
    """

    dataset: str
    found: int
    accepted: int
    present: int
    duplicates: int
    waiting: int
    left_out: int
    quarantined: int
    arriving: int
    barred: int
    skipped: int
    exams: int
    across_splits: int
    relabelled: int
    removed: int
    unused_lines: int
    batch: str | None
    manifest_sha256: str
    refused: tuple[Refusal, ...]
    waits: tuple[tuple[str, str], ...]
    shut: tuple[str, ...] = ()


def ingest(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    make_version: Callable[[], object] = lambda: None,
    retry: bool = False,
) -> IngestReport:
    """Make the dataset, or extend it by what its source has new.

    Exams that have left the source stay in the dataset. A source without news changes no byte.

    Args:
        workspace: that holds the dataset.
        name: of the dataset.
        dataset: its settings.
        progress: told of each exam.
        make_version: called when the dataset is complete; only once it has returned does the
            source count as taken in.
        retry: read files again that could not be read before.

    Raises:
        UserError: the settings or the source break a rule, a stored exam is damaged, or no exam is
            left; the dataset is as it was.
    """
    limits = dataset.limits if isinstance(dataset, FolderDataset) else Limits()
    with dataset_lock(workspace, name, "ingest"), Workers(limits) as workers:
        identity = _identity(workspace, name, dataset)
        ban = barred.read(workspace, name)
        ring = origin.keys_of(workspace, name, dataset, ban)
        _check_home(workspace, name)
        here = _rows(workspace, name)
        # An older version from elsewhere may still hold theirs: it goes on without them.
        before = {exam: row for exam, row in here.items() if not ban.bars(row)}
        settled = history.settled(workspace, name, before.values())
        ring = ring.knowing({*settled, *(row["labeller"] for row in before.values())})
        source = fingerprint.of_source(workspace, name, dataset)
        note = fingerprint.note(workspace, name)
        note = origin.renewed(workspace, name, dataset, ring, note, workers)
        offered = origin.offered(workspace, name, dataset, ring, note, ban, workers)
        path = workspace.quarantine(name)
        stored = Stored(workspace.exams(name), before, note.states)
        dates = dataset.dates if isinstance(dataset, FolderDataset) else "full"
        reasons = {r.file: r.reason for r in quarantine.read(path) if r.kind == "unreadable"}
        faults = {
            listing.stamp: reasons[listing.name]
            for listing in offered.listings
            if not retry and listing.stamp in note.faults and listing.name in reasons
        }
        intake = Intake(stored, ring, dates, before, note.files, faults, note.places, ban.exams)
        try:
            intake.take(offered.listings, workspace.exams(name), workers, progress)
            kept = _account_unlisted(offered, intake, before, note)
            for file, (reason, kind) in offered.refused.items():
                intake.refuse(file, reason, kind)
            names = _names(offered)
            rows, standing = intake.settle(quarantine.barred(quarantine.read(path), names))
            # Written before the rest can fail: the reasons are what its reader needs then.
            refused = quarantine.update(path, intake.refused, names)
            rows = split_rows(rows, standing, settled, name, dataset)
            stored.check(rows)
            batch = _number_batch(rows, before)
            stored.flush()
            identity = _with_keys(identity, ring, rows.values())
            manifest.write(manifest.frame([*rows.values()]), workspace.manifest(name), identity)
        except UserError:
            sweep(workspace, name, here)
            raise
        sweep(workspace, name, rows)
        found_now = fingerprint.of_dataset(workspace, name, source)
        make_version()
        states = {exam: stored.states[exam] for exam in rows}
        fingerprint.record(
            workspace,
            name,
            Note(
                found_now,
                intake.files,
                states,
                offered.headers,
                sorted(intake.faults),
                {place: exam for place, exam in intake.places.items() if exam in rows},
                ring.now,
            ),
        )
        now_refused = {refusal.file for refusal in intake.refused} & names
        claimed = {exam: listing.name for exam, listing in standing.items()}
        listed = {listing.name for listing in offered.listings}
        new = [claimed[exam] for exam in rows.keys() - before.keys()]
        old = [claimed[exam] for exam in rows.keys() & before.keys() & claimed.keys()]
        rare = [claimed[exam] for exam in claimed.keys() - rows.keys()]
        double = listed - now_refused - {*claimed.values(), *intake.arriving, *intake.barred}
        arriving = [*offered.arriving, *intake.arriving]
        shut = [*offered.barred, *intake.barred]
        parts = [new, [*old, *kept], double, offered.waiting, rare, now_refused, arriving, shut]
        counts = [offered.files(part) for part in (*parts, offered.skipped)]
        return IngestReport(
            name,
            sum(counts),
            *counts,
            exams=len(rows),
            across_splits=intake.across_splits,
            relabelled=sum(
                rows[exam]["label"] != before[exam]["label"] for exam in rows.keys() & before.keys()
            ),
            removed=len(here.keys() - rows.keys()),
            unused_lines=offered.unused_lines,
            batch=batch,
            manifest_sha256=manifest.version_hash(workspace.manifest(name)),
            refused=tuple(refused),
            waits=tuple(sorted(offered.waiting.items())),
            shut=tuple(sorted(shut)),
        )


def _names(offered: Offer) -> set[str]:
    """Of all that was found and may be an exam.

    Without the barred: a conflict that one of them is part of is not settled by its silence.
    """
    listed = {listing.name for listing in offered.listings}
    others = (offered.refused, offered.waiting, offered.unlisted.values(), offered.arriving)
    return listed.union(*others)


def _account_unlisted(
    offered: Offer, intake: Intake, before: Mapping[str, Row], note: Note
) -> list[str]:
    """Keep what was taken in and has no line any more; withdraw what has another label now.

    Returns:
        Names of files of exams that stay without a listing.
    """
    stay = {place for place in offered.unlisted if note.places[place] in before}
    offered.waiting |= {
        name: offer.NO_LINE for place, name in offered.unlisted.items() if place not in stay
    }
    for place in stay:
        intake.keep(place, note.places[place])
    for place in offered.withdrawn:
        intake.withdraw(place)
    return [offered.unlisted[place] for place in stay]


def _identity(workspace: Workspace, name: str, dataset: Dataset) -> dict[str, Any]:
    """What the dataset is made of; checked against the manifest's, of which the keys are left.

    An existing dataset's is given as it stands: a setting that came later changes no byte.

    Raises:
        UserError: it was made of something else, or its exams are not here.
    """
    now = fingerprint.identity(dataset)
    if not workspace.manifest(name).is_file():
        if workspace.pointer(name).is_file():
            raise UserError(
                f"the exams of {name} are not here, but git holds a version of them",
                rule="a dataset is extended, so that patients keep their splits",
                remedy=f"dvc pull {workspace.pointer(name).relative_to(workspace.root)}, or remove "
                "that file to start anew",
            )
        return now
    recorded = manifest_columns.read_identity(workspace.manifest(name))
    then = fingerprint.default_identity(dataset) | recorded
    changed = [setting for setting in now if now[setting] != then.get(setting)]
    if changed:
        raise UserError(
            f"was {then.get(changed[0])!r} when the dataset was made, and is {now[changed[0]]!r}",
            where=f"datasets.{name}.{changed[0]}",
            rule="what a dataset is made of does not change",
            remedy="put it back, or give the new dataset a new name",
        )
    return recorded


def _with_keys(identity: dict[str, Any], ring: Keyring, rows: Iterable[Row]) -> dict[str, Any]:
    """With the marks of the keys that somebody in these rows has a pseudonym of."""
    used = ring.makers(row[column] for row in rows for column in ("patient", "labeller"))
    marked = dict.fromkeys([*manifest_columns.marks(identity), *used]) or [ring.now]
    return manifest_columns.with_marks(identity, marked)


def _check_home(workspace: Workspace, name: str) -> None:
    """Raises UserError: what is not ours lies among the exams; its name may be a person's."""
    home = workspace.exams(name)
    if not home.is_dir():
        return
    own = workspace.manifest(name).name
    with os.scandir(home) as entries:
        strange = sum(
            entry.is_dir() or not (entry.name == own or OWN.fullmatch(entry.name))
            for entry in entries
        )
    if strange:
        place = home.relative_to(workspace.root)
        raise UserError(
            f"holds files or folders ({strange}) that no ingestion made",
            where=str(place),
            rule="all that lies there is the version: the exams, their manifest, nothing else",
            remedy=f"find them with `ls -A {place}` and move them away; files of new exams go to "
            f"data/inbox/{name}",
        )


def _rows(workspace: Workspace, name: str) -> dict[str, Row]:
    if not workspace.manifest(name).is_file():
        return {}
    return manifest.rows(manifest.read(workspace.manifest(name)))


def _number_batch(rows: Mapping[str, Row], before: Mapping[str, Row]) -> str | None:
    """Give new rows the next batch's number; None where there are none."""
    new = rows.keys() - before.keys()
    last = max((int(row["batch"]) for row in before.values()), default=0)
    for exam in new:
        rows[exam]["batch"] = f"{last + 1:04d}"
    return f"{last + 1:04d}" if new else None


def sweep(workspace: Workspace, name: str, rows: Iterable[str]) -> None:
    """Remove stored exams that are not of these rows, and what a kill left half-written."""
    home = workspace.exams(name)
    if not home.is_dir():
        return
    kept = {exam_name(exam) for exam in rows}
    # Nothing else is touched: it may have come since the folder was checked.
    swept = [n for n in os.listdir(home) if n not in kept and OWN.fullmatch(n)]  # noqa: PTH208
    for name_ in swept:
        (home / name_).unlink()
    if not any(home.iterdir()):
        home.rmdir()

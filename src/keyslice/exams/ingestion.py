"""From a source to the set of exams and its manifest: what is new is added, nothing else moves.

Exams are written first, each under its content's name; the manifest follows in one step, and what
was found is noted at the very end. A process that is killed in between leaves the old dataset or
the new one, and running again completes it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyslice.config import FolderDataset, MedMNISTDataset, PhantomDataset, Workspace
from keyslice.config.datasets import Dataset
from keyslice.errors import UserError
from keyslice.exams import fingerprint, folder, history, manifest, medmnist, phantom, quarantine
from keyslice.exams.exam import exam_path
from keyslice.exams.intake import Intake, Row
from keyslice.exams.lock import dataset_lock
from keyslice.exams.pseudonym import KEY_VARIABLE, PUBLISHED_KEY, pseudonym, secret_key
from keyslice.exams.quarantine import Refusal
from keyslice.exams.source import Listing, Unlisted
from keyslice.exams.split import split_rows
from keyslice.exams.stored import Stored

Progress = Callable[[int, int], None]
"""Called with the number of exams read so far, and of all."""
OWN = re.compile(
    r"[0-9a-f]{32}\.npz"
    r"|\.([0-9a-f]{32}|manifest)-[0-9a-f]{8}\.(npz|parquet)"  # `files.beside`, cut off
    r"|\.[\w-]{22}\.tmp"  # DVC, cut off
)
"""Names in a dataset's folder that are for an ingestion to remove."""


@dataclass(frozen=True)
class IngestReport:
    """What became of every exam that the source offered.

    found = accepted + present + duplicates + left_out + quarantined.

    Args:
        dataset: its name.
        found: exams offered, files of a known format without a line in the table included.
        accepted: new in the dataset.
        present: in it before.
        duplicates: the same content as another file, of the same patient and label.
        across_splits: those of the duplicates that another official split has.
        left_out: of a class with too few patients.
        quarantined: refused.
        relabelled: of those present, with another label than before.
        removed: in the dataset before, no longer in it.
        batch: ordinal of the new batch; None where no exam is new.
        manifest_sha256: of the manifest.
        refused: the quarantine list as it stands.
    """

    dataset: str
    found: int
    accepted: int
    present: int
    duplicates: int
    across_splits: int
    left_out: int
    quarantined: int
    relabelled: int
    removed: int
    batch: str | None
    manifest_sha256: str
    refused: tuple[Refusal, ...]


def ingest(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    make_version: Callable[[], object] = lambda: None,
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

    Raises:
        UserError: the settings or the source break a rule, a stored exam is damaged, or no exam is
            left; the dataset is as it was.
    """
    with dataset_lock(workspace, name, "ingest"):
        key = _key(workspace, dataset)
        identity = _identity(workspace, name, dataset, key)
        _check_home(workspace, name)
        before = _rows(workspace, name)
        settled = history.settled(workspace, name, before.values())
        source = fingerprint.of_source(workspace, name, dataset)
        listings, unlisted = _offered(workspace, name, dataset)
        listed = {listing.name for listing in listings} | {file.name for file in unlisted}
        path = workspace.quarantine(name)
        known = fingerprint.known_files(workspace, name)
        stored = Stored(workspace.exams(name), before, fingerprint.known_states(workspace, name))
        intake = Intake(stored, key, before, known)
        try:
            _take_all(intake, listings, unlisted, progress)
            rows, offered = intake.settle(quarantine.barred(quarantine.read(path), listed))
            # Written before the rest can fail: the reasons are what its reader needs then.
            refused = quarantine.update(path, intake.refused, listed)
            rows = split_rows(rows, offered, settled, name, dataset)
            stored.check(rows)
            batch = _number_batch(rows, before)
            manifest.write(manifest.frame([*rows.values()]), workspace.manifest(name), identity)
        except UserError:
            _sweep(workspace, name, before)
            raise
        _sweep(workspace, name, rows)
        found_now = fingerprint.of_dataset(workspace, name, source)
        make_version()
        states = {exam: stored.states[exam] for exam in rows}
        fingerprint.record(workspace, name, found_now, intake.files, states)
        quarantined = len({refusal.file for refusal in intake.refused} & listed)
        found = len(listings) + len(unlisted)
        return IngestReport(
            dataset=name,
            found=found,
            accepted=len(rows.keys() - before.keys()),
            present=len(rows.keys() & before.keys() & offered.keys()),
            duplicates=found - quarantined - len(offered),
            across_splits=intake.across_splits,
            left_out=len(offered.keys() - rows.keys()),
            quarantined=quarantined,
            relabelled=sum(
                rows[exam]["label"] != before[exam]["label"] for exam in rows.keys() & before.keys()
            ),
            removed=len(before.keys() - rows.keys()),
            batch=batch,
            manifest_sha256=manifest.version_hash(workspace.manifest(name)),
            refused=tuple(refused),
        )


def _key(workspace: Workspace, dataset: Dataset) -> bytes:
    if isinstance(dataset, FolderDataset) and dataset.identifiers == "secret":
        return secret_key(workspace)
    return PUBLISHED_KEY


def _identity(workspace: Workspace, name: str, dataset: Dataset, key: bytes) -> dict[str, Any]:
    """What the dataset is made of, its key told by a hash; checked against the manifest's.

    An existing dataset's is given as it stands: a setting that came later changes no byte.

    Raises:
        UserError: it was made of something else, or its exams are not here.
    """
    now = fingerprint.identity(dataset) | {"key": pseudonym(key, "keyslice", "which key")}
    if not workspace.manifest(name).is_file():
        if workspace.pointer(name).is_file():
            raise UserError(
                f"the exams of {name} are not here, but git holds a version of them",
                rule="a dataset is extended, so that patients keep their splits",
                remedy=f"dvc pull {workspace.pointer(name).relative_to(workspace.root)}, or remove "
                "that file to start anew",
            )
        return now
    recorded = manifest.read_identity(workspace.manifest(name))
    then = fingerprint.default_identity(dataset) | recorded
    changed = [setting for setting in now if now[setting] != then.get(setting)]
    if changed == ["key"]:
        raise UserError(
            f"the key is not the one that the pseudonyms of {name} were made with",
            where=KEY_VARIABLE,
            rule="one dataset, one key",
            remedy="set it to the key used before",
        )
    if changed:
        raise UserError(
            f"was {then.get(changed[0])!r} when the dataset was made, and is {now[changed[0]]!r}",
            where=f"datasets.{name}.{changed[0]}",
            rule="what a dataset is made of does not change",
            remedy="put it back, or give the new dataset a new name",
        )
    return recorded


def _check_home(workspace: Workspace, name: str) -> None:
    """Raises UserError: what is not ours lies among the exams; its name may be a person's."""
    home = workspace.exams(name)
    if not home.is_dir():
        return
    others = [path for path in home.iterdir() if path != workspace.manifest(name)]
    if strange := sum(path.is_dir() or not OWN.fullmatch(path.name) for path in others):
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


def _offered(
    workspace: Workspace, name: str, dataset: Dataset
) -> tuple[list[Listing], list[Unlisted]]:
    if isinstance(dataset, MedMNISTDataset):
        return medmnist.listings(workspace, dataset, name), []
    if isinstance(dataset, PhantomDataset):
        inbox = workspace.inbox(name)
        return folder.listings(inbox, phantom.write(inbox, dataset, name), name)
    place = fingerprint.folder_of(workspace, name, dataset)
    folder.check_place(workspace, place, dataset, name)
    return folder.listings(place, dataset, name)


def _take_all(
    intake: Intake,
    listings: Sequence[Listing],
    unlisted: Sequence[Unlisted],
    progress: Progress | None,
) -> None:
    for done, listing in enumerate(listings, start=1):
        intake.take(listing)
        if progress is not None:
            progress(done, len(listings))
    for file in unlisted:
        intake.refuse_unlisted(file)


def _number_batch(rows: Mapping[str, Row], before: Mapping[str, Row]) -> str | None:
    """Give new rows the next batch's number; None where there are none."""
    new = rows.keys() - before.keys()
    last = max((int(row["batch"]) for row in before.values()), default=0)
    for exam in new:
        rows[exam]["batch"] = f"{last + 1:04d}"
    return f"{last + 1:04d}" if new else None


def _sweep(workspace: Workspace, name: str, rows: Iterable[str]) -> None:
    """Remove stored exams that are not of these rows, and what a kill left half-written."""
    home = workspace.exams(name)
    if not home.is_dir():
        return
    kept = {exam_path(home, exam) for exam in rows}
    for path in home.iterdir():
        # Nothing else is touched: it may have come since the folder was checked.
        if OWN.fullmatch(path.name) and path not in kept:
            path.unlink()
    if not any(home.iterdir()):
        home.rmdir()

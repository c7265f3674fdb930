"""A dataset's version becomes one: recorded by DVC, its manifest kept, and told to the ledger."""

from collections import Counter

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.exams import history, listed, manifest
from keyslice.exams.split import group
from keyslice.provenance import events, heads, ledger, standing, withdrawn


def record(workspace: Workspace, params: Params, name: str, previous: str | None) -> str:
    """Make the exams of dataset `name` as they are now a version, and return it.

    One that the ledger named last is not told again. The caller holds the dataset's lock.

    Args:
        workspace: that holds it.
        params: its settings.
        name: of the dataset.
        previous: its version before; None: there was none. The ledger knows better.

    Raises:
        RunError: DVC cannot record it.
        UserError: the ledger is damaged.
    """
    listed.bring_in_line(workspace, params)  # first: DVC reads it, whatever it is asked for
    version = versioning.record_version(workspace, name)
    history.keep(workspace, name, version)
    with ledger.exclusive(workspace):
        last = standing.last_version(ledger.read(workspace), name)
        told = last.payload["version"] if last else None
        if told != version:
            before = told or previous
            payload = _payload(workspace, name, version, None if before == version else before)
            ledger.append(workspace, events.DATASET_VERSIONED, f"{name}@{version}", payload)
            heads.note(workspace)
    return version


def check_barred(workspace: Workspace, name: str) -> None:
    """Whether the list of who has withdrawn from dataset `name` is the one the ledger tells of.

    Raises:
        UserError: it was altered or removed; or the ledger is damaged.
    """
    if not withdrawn.barred_as_told(ledger.read(workspace), workspace, name):
        raise UserError(
            "is not the list of who has withdrawn that the ledger tells of",
            where=f"state/ledger/barred/{name}.txt",
            rule="without it their exams would be taken in again",
            remedy="restore it from the backup of state/",
        )


def check_told(workspace: Workspace, name: str) -> None:
    """Whether dataset `name` is at the version that the ledger tells of, with its manifest.

    Raises:
        UserError: it is at another one, or the kept manifest was altered; or the ledger is damaged.
    """
    found = ledger.read(workspace)
    told = standing.last_version(found, name)
    if told is None:
        return
    version, here = told.payload["version"], versioning.version(workspace, name)
    if here != version:
        raise UserError(
            f"{name} is at version {(here or 'none')[:12]}, by the ledger at {version[:12]}",
            rule="a dataset's version is made by an ingestion or a withdrawal",
            remedy=f"git checkout its pointer and dvc checkout, or keyslice ingest {name}",
        )
    kept = workspace.kept_manifest(name, version)
    expected = withdrawn.successor(found, told.payload["manifest"])
    if not kept.is_file() or files.sha256(kept) != expected:
        raise UserError(
            "is not the manifest that the ledger tells of",
            where=kept.relative_to(workspace.root).as_posix(),
            rule="models are judged by the labels and splits that were ingested",
            remedy="restore it from the backup of state/",
        )


def _payload(
    workspace: Workspace, name: str, version: str, previous: str | None
) -> dict[str, object]:
    path = workspace.manifest(name)
    table = manifest.read(path)
    patients = {group(*pair) for pair in zip(table["exam_id"], table["patient"], strict=True)}
    return {
        "dataset": name,
        "version": version,
        "previous": previous,
        "manifest": manifest.version_hash(path),
        "exams": len(table),
        "patients": len(patients),
        "splits": dict(Counter(table["split"])),
        "labels": dict(Counter(table["label"])),
    }

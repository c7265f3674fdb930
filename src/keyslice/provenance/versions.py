"""A dataset's version becomes one: recorded by DVC, its manifest kept, and told to the ledger."""

from collections import Counter

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.exams import history, listed, manifest
from keyslice.exams.split import group
from keyslice.provenance import events, heads, ledger, standing


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
        told = standing.dataset_version(ledger.read(workspace), name)
        if told != version:
            before = told or previous
            payload = _payload(workspace, name, version, None if before == version else before)
            ledger.append(workspace, events.DATASET_VERSIONED, f"{name}@{version}", payload)
            heads.note(workspace)
    return version


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

"""Every version's manifest, kept in state/: who has left the dataset returns into the same split.

Exams leave a dataset by a conflict, by a class that is left out, or by going back to an older
version; the manifest that lies with the exams then knows nothing of them.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import manifest_columns
from keyslice.exams.split import group


def keep(workspace: Workspace, name: str, version: str) -> None:
    """Keep the manifest as it is now under the dataset's version; one that is kept stays."""
    kept = workspace.kept_manifest(name, version)
    if not kept.is_file():
        with files.beside(kept) as part:
            shutil.copyfile(workspace.manifest(name), part)


def settled(workspace: Workspace, name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The split of everyone who is, or ever was, in the dataset; see `split.group`.

    Args:
        workspace: that keeps the manifests.
        name: of the dataset.
        rows: of the manifest as it is.

    Raises:
        UserError: two manifests put someone into two splits. Neither can be chosen: some model
            has learned from that patient, and another was tested on him.
    """
    splits = {group(row["exam_id"], row["patient"]): row["split"] for row in rows}
    for path in _kept(workspace, name):
        for one, split in manifest_columns.read_splits(path).items():
            if splits.setdefault(one, split) != split:
                raise UserError(
                    f"has a patient in {split} whom another version of {name} has in {splits[one]}",
                    where=str(path.relative_to(workspace.root)),
                    rule="a patient keeps its split for good",
                    remedy="restore what was altered from its backup, or remove from that folder "
                    "the versions that shall not count",
                )
    return splits


def keys(workspace: Workspace, name: str) -> tuple[str, ...]:
    """Marks of the keys that its pseudonyms were ever made with, the manifest's own first.

    Raises:
        UserError: a manifest is damaged.
    """
    told = (manifest_columns.read_identity(path) for path in _all(workspace, name))
    return tuple(
        dict.fromkeys(mark for identity in told for mark in manifest_columns.marks(identity))
    )


def patients(workspace: Workspace, name: str) -> set[str]:
    """Everyone who is, or ever was, in the dataset.

    Raises:
        UserError: a manifest is damaged.
    """
    read = manifest_columns.read_patients
    return {patient for path in _all(workspace, name) for patient in read(path)}


def _all(workspace: Workspace, name: str) -> list[Path]:
    """The manifest as it is, then every kept one."""
    own = workspace.manifest(name)
    return [*([own] if own.is_file() else []), *_kept(workspace, name)]


def _kept(workspace: Workspace, name: str) -> list[Path]:
    # Not the hidden files: a kill leaves them half-written.
    return sorted(workspace.manifests(name).glob("[!.]*.parquet"))

"""What trainings start from is put in its place: networks first, then their names.

Networks lie under their SHA-256, so that a new one comes beside those that are there, and one that
nobody needs any more goes when nothing names it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from keyslice import files, initial
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams.lock import locked
from keyslice.initial import Entries
from keyslice.versioning.dvc import record_networks


def lay(workspace: Workspace, dataset: str, entries: Entries, networks: Mapping[str, Path]) -> None:
    """Have the next trainings of a dataset start from what `entries` says.

    Networks that no entry names any more go. At each moment all that are named are here, and DVC
    holds them; after a kill the same call goes on from there.

    Args:
        workspace: that holds it.
        dataset: its name.
        entries: of all variants.
        networks: files of those that are not here yet, by their SHA-256.

    Raises:
        UserError: one that is named is neither here nor given.
        DVCError: DVC cannot take the networks.
    """
    needed = {ancestor.weights for ancestor in entries.values() if ancestor is not None}
    folder = workspace.networks(dataset)
    with locked(workspace, "datasets", "saying what trainings start from"):
        here = {path.stem for path in folder.glob("*") if files.sha256(path) == path.stem}
        if absent := needed - {*here, *networks}:
            raise UserError(
                f"the network with the SHA-256 {min(absent)[:12]}… is not here, or altered",
                where=f"data/initial/{dataset}",
                rule="trainings that are up to date keep what they started from",
                remedy=f"dvc pull data/initial/{dataset}.dvc",
            )
        _remove(folder, {*here, *needed})  # what a kill left, half-written
        for weights in sorted(needed - here):
            with files.beside(initial.network(workspace, dataset, weights)) as part:
                shutil.copyfile(networks[weights], part)
        if needed:
            record_networks(workspace, dataset)  # also where a kill came before it
        if initial.read(workspace, dataset) != dict(entries):
            initial.write(workspace, dataset, entries)
        removed = _remove(folder, needed)
        if not needed:
            shutil.rmtree(folder, ignore_errors=True)
        if removed or not needed:
            record_networks(workspace, dataset)


def _remove(folder: Path, kept: set[str]) -> bool:
    """Remove the files whose names are not among `kept`; whether there were any."""
    others = [path for path in folder.glob("*") if path.stem not in kept]
    for path in others:
        path.unlink()
    return bool(others)

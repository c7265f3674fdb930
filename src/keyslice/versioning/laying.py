"""What trainings start from is put in its place: networks first, then their names."""

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

    Networks that no entry names any more go. A kill leaves entries whose networks are not here
    only of trainings that are to be done anyway; asked again, it goes on.

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
        found = [path for path in folder.glob("*") if files.sha256(path) == path.stem]
        here = {path.stem: path for path in found}
        if absent := needed - {*here, *networks}:
            raise UserError(
                f"the network with the SHA-256 {min(absent)[:12]}… is not here, or altered",
                where=f"data/initial/{dataset}",
                rule="trainings that are up to date keep what they started from",
                remedy=f"dvc pull data/initial/{dataset}.dvc",
            )
        if needed:
            if needed != {path.stem for path in folder.glob("*")} or needed - here.keys():
                with files.folder_beside(folder) as part:
                    for weights in sorted(needed):
                        own = initial.network(workspace, dataset, weights)
                        shutil.copyfile((here | dict(networks))[weights], part / own.name)
            record_networks(workspace, dataset)  # also where a kill came before it
        if initial.read(workspace, dataset) != dict(entries):
            initial.write(workspace, dataset, entries)
        if not needed:
            shutil.rmtree(folder, ignore_errors=True)
            record_networks(workspace, dataset)

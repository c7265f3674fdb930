"""What trainings start from is put in its place: networks first, then their names."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from keyslice import files, initial
from keyslice.config import Workspace
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
        DVCError: DVC cannot take the networks.
    """
    needed = {ancestor.weights for ancestor in entries.values() if ancestor is not None}
    folder = workspace.networks(dataset)
    here = {path.stem for path in folder.glob(f"[!.]*{initial.SUFFIX}")}
    with locked(workspace, "datasets", "saying what trainings start from"):
        if needed:
            if here != needed:
                with files.folder_beside(folder) as part:
                    for weights in sorted(needed):
                        own = initial.network(workspace, dataset, weights)
                        source = own if weights in here else networks[weights]
                        shutil.copyfile(source, part / own.name)
            record_networks(workspace, dataset)  # also where a kill came before it
        if initial.read(workspace, dataset) != dict(entries):
            initial.write(workspace, dataset, entries)
        if not needed:
            shutil.rmtree(folder, ignore_errors=True)
            record_networks(workspace, dataset)

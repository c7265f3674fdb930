"""A folder as a source: the files in it, and where it may lie."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from keyslice.config import FolderDataset, Workspace
from keyslice.errors import UserError


def scan(folder: Path, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Relative path and state of all that lies in the folder and is no folder; links not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{below}{entry.name}"
            # What is renamed or removed meanwhile, as by a program that copies, is not there.
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from scan(folder, f"{path}/")
                else:
                    yield path, entry.stat(follow_symlinks=False)


def check_place(workspace: Workspace, folder: Path, dataset: FolderDataset, name: str) -> None:
    """Exams and patient ids lie where no commit can take them along; links are followed.

    Raises:
        UserError: there is no such folder; or it, or the table, lies in the workspace, but not in
            the inbox.
    """
    root = workspace.root.resolve()
    # Itself not followed: a link from there into the workspace leads to what git may track.
    inbox = Workspace(root).inbox(name).parent
    for key, place in (("path", folder), ("labels", folder / dataset.labels)):
        found = place.resolve()
        if found.is_relative_to(root) and not found.is_relative_to(inbox):
            raise UserError(
                f"{found.relative_to(root)} lies in the workspace",
                where=f"datasets.{name}.{key}",
                rule="exams and patient ids lie in data/inbox or outside the workspace, where no "
                "commit takes them along",
                remedy=f"move it to data/inbox/{name}",
            )
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}",
            where=f"datasets.{name}.path",
            rule="exam files and their table of labels lie there",
            remedy="put them there, or name their folder",
        )

"""A folder of exam files with a table of labels."""

import os
from collections.abc import Iterator
from pathlib import Path

from keyslice.config import FolderDataset, Workspace
from keyslice.errors import UserError
from keyslice.exams import readers
from keyslice.exams.source import Listing, Unlisted, printable
from keyslice.exams.table import LabelTable


def scan(folder: Path, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Relative path and state of every file in the folder; hidden ones are passed over."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{below}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from scan(folder, f"{path}/")
            else:
                yield path, entry.stat(follow_symlinks=False)


def check_place(workspace: Workspace, folder: Path, dataset: FolderDataset, name: str) -> None:
    """Exams and patient ids lie where no commit can take them along; links are followed.

    Raises:
        UserError: the folder or the table lies in the workspace, but not in the inbox.
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


def listings(
    folder: Path, dataset: FolderDataset, name: str
) -> tuple[list[Listing], list[Unlisted]]:
    """The exams that the table lists, and exam files that it does not.

    Raises:
        UserError: no folder, something in it that cannot be read, or what `LabelTable` raises.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}",
            where=f"datasets.{name}.path",
            rule="exam files and their table of labels lie there",
            remedy="put them there, or name their folder",
        )
    table = LabelTable(folder, dataset, name)
    rows = [table.listing(line, row) for line, row in table.rows()]
    listed = {listing.name for listing in rows}
    try:
        unlisted = [
            _unlisted(path, dataset.labels)
            for path, _ in scan(folder)
            if readers.format_of(path) and path not in listed
        ]
    except OSError as error:
        raise UserError(
            f"a folder in {folder} cannot be read ({error.strerror})",
            where=f"datasets.{name}.path",
            rule="every folder with exams can be read",
            remedy=f"`find {folder} -type d ! -readable` names it",
        ) from None
    return rows, unlisted


def _unlisted(path: str, labels: str) -> Unlisted:
    name = printable(path)
    if name != path:
        return Unlisted(name, f"its name is not UTF-8, as {labels} is; rename it and list it there")
    return Unlisted(name, f"no line of {labels} names this file")

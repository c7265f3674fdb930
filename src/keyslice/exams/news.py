"""What lies in an inbox that no ingestion has taken, told without reading a pixel."""

from dataclasses import dataclass

from keyslice.config import FolderDataset, Workspace
from keyslice.exams import barred, fingerprint, origin
from keyslice.exams.workers import Workers


@dataclass(frozen=True)
class News:
    """Of the source of one dataset.

    Args:
        exams: stamps of labelled exams that no ingestion has read: all their files are there.
        arriving: files that are still being written.
        waiting: exams without a usable label.
    """

    exams: tuple[str, ...] = ()
    arriving: int = 0
    waiting: int = 0


def news(workspace: Workspace, name: str, dataset: FolderDataset) -> News:
    """What an ingestion would find new now.

    An exam counts that another may prove to be a double of: pixels tell that, and are not read.
    A file that has just been written is waited for, for as long as `settle` says.

    Raises:
        UserError: the source breaks a rule, or cannot be read.
    """
    with Workers(dataset.limits) as workers:
        note = fingerprint.note(workspace, name)
        ban = barred.read(workspace, name)
        ring = origin.keys_of(workspace, name, dataset, ban)
        offered = origin.offered(workspace, name, dataset, ring, note, ban, workers)
    # A fault is known until the file changes: its exam is in quarantine, and not new.
    known = {*note.files, *note.faults}
    return News(
        tuple(sorted(one.stamp for one in offered.listings if one.stamp not in known)),
        len(offered.arriving),
        len(offered.waiting),
    )

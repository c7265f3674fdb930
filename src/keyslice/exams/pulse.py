"""Whether anything moves in a folder: asked every minute, and therefore cheap.

An inbox may be a share of another machine, which tells nobody when a file comes: it has to be
looked at. A new file changes the time of its folder, so that of a quiet inbox the folders alone are
looked at, not the files in them.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keyslice.exams.folder import scan


class Pulse:
    """Looks at a folder, and knows since when it has been quiet.

    What is written into a file that lay there before is seen while the folder is not quiet yet, and
    of the table of labels always.

    Args:
        folder: the source.
        table: of labels.
        quiet: seconds without a change after which the folder is quiet.
        clock: seconds, never set back.
    """

    def __init__(self, folder: Path, table: Path, quiet: float, clock: Callable[[], float]) -> None:
        self._folder, self._table, self._quiet, self._clock = folder, table, quiet, clock
        self._folders: dict[str, int] | None = None
        self._table_state: tuple[int, int] | None = None
        self._digest = ""
        self._since = clock()
        self._settled = False

    def look(self) -> str | None:
        """What stands for all that lies there, once it has been quiet; None: it is not, or cannot
        be listed.
        """
        try:
            return self._look()
        except OSError:  # not mounted, not there yet
            self._folders, self._settled = None, False
            return None

    def _look(self) -> str | None:
        table = _state(self._table)
        if self._settled and table == self._table_state and self._same_folders():
            return self._digest
        folders = dict(_folders(os.fspath(self._folder)))
        digest, now = self._whole(table), self._clock()
        if digest != self._digest:
            self._digest, self._since = digest, now
        self._folders, self._table_state = folders, table
        self._settled = now - self._since >= self._quiet
        return digest if self._settled else None

    def _same_folders(self) -> bool:
        known = self._folders or {}
        return all(os.stat(path).st_mtime_ns == time for path, time in known.items())  # noqa: PTH116

    def _whole(self, table: tuple[int, int] | None) -> str:
        found = [(path, *_times(status)) for path, status in scan(self._folder)]
        return hashlib.sha256(repr((found, table)).encode(errors="surrogateescape")).hexdigest()


def _folders(path: str) -> Iterator[tuple[str, int]]:
    """A folder and those below it, with their times."""
    yield path, os.stat(path).st_mtime_ns  # noqa: PTH116
    with os.scandir(path) as entries:
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for one in below:
        yield from _folders(one)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        return _times(file.stat())[:2]
    except FileNotFoundError:
        return None


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns

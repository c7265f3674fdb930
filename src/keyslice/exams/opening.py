"""One exam by its path: a file, an archive, or the folder of its files."""

from collections.abc import Sequence
from pathlib import Path

from keyslice.exams import discovery
from keyslice.exams.discovery import Explorer, Header
from keyslice.exams.exam import Exam
from keyslice.exams.offer import header
from keyslice.exams.source import Reading, SourceFile, UnreadableError, file_state, printable


def open_exam(path: Path, reading: Reading) -> Exam:
    """Read the exam that lies at a path, as an ingestion would.

    Raises:
        UnreadableError: there is none, or more than one, or it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    explorer = Explorer(folder, reading.limits, headers=_headers)
    try:
        if path.is_dir():
            found = explorer.explore()
        else:
            file = SourceFile(printable(path.name), path, *file_state(path.stat()))
            found = explorer.sort([file])
    except OSError as error:
        raise UnreadableError(f"it cannot be opened ({error.strerror})") from None
    if len(found.units) == 1:
        return discovery.read(found.units[0], reading)
    if found.units:
        raise UnreadableError(f"it holds {len(found.units)} exams")
    reasons = [*found.refused.values(), *found.skipped.values()]
    raise UnreadableError(reasons[0] if reasons else "it holds no exam")


def _headers(files: Sequence[SourceFile]) -> list[Header | str]:
    return [header(file, str) for file in files]

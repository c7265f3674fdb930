"""Zip archives: what they hold, as files of the source; what must not be taken out is refused."""

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from keyslice.config import Limits
from keyslice.exams.source import SourceFile, UnreadableError, printable

ENDING = ".zip"
ENCRYPTED = 0x1


def members(archive: SourceFile, limits: Limits) -> Iterator[tuple[SourceFile, str]]:
    """Each file in an archive and why it is refused; an empty reason: it is not.

    Nothing is written: a member is read out of its archive when it is needed, into memory, at most
    as many bytes as the archive's directory says, which the limits bound.

    Raises:
        UnreadableError: it is no archive that can be read.
    """
    try:
        with archive.open() as stream, zipfile.ZipFile(stream) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    except UnreadableError:
        raise
    except Exception:  # whatever a damaged directory makes the library do
        raise UnreadableError("it is no zip archive that can be read") from None
    seen: Counter[str] = Counter()
    for number, entry in enumerate(entries):
        name = f"{archive.name}/{printable(entry.filename)}"
        if again := seen[entry.filename]:
            name = f"{name} ({again + 1})"
        file = SourceFile(name, archive.path, entry.file_size, archive.time, entry.filename)
        yield file, _fault(entry, limits) or _place(entry, number, seen, limits)
        seen[entry.filename] += 1


def _fault(entry: zipfile.ZipInfo, limits: Limits) -> str:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if not path.parts:
        return "it has no name"
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "its path leads out of its archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link in an archive"
    if entry.flag_bits & ENCRYPTED:
        return "its archive is encrypted"
    if entry.filename.lower().endswith(ENDING):
        return "an archive in an archive; unpack one of them"
    if entry.file_size > limits.memory:
        return (
            f"it would take {entry.file_size:,} bytes; at most {limits.memory:,} are taken out of "
            "an archive (limits.memory)"
        )
    return ""


def _place(entry: zipfile.ZipInfo, number: int, seen: Counter[str], limits: Limits) -> str:
    if number >= limits.members:
        return f"its archive holds more than {limits.members:,} files (limits.members)"
    return "its archive holds another file of this name" if entry.filename in seen else ""

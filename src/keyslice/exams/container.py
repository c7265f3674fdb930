"""The file of a stored exam: a zip archive of its description and its compressed frames."""

import io
import json
import zipfile
from pathlib import Path
from typing import BinaryIO

from keyslice import files
from keyslice.exams import codecs
from keyslice.exams.codecs import raw
from keyslice.exams.exam import Exam

ABOUT = "exam.json"
FORMAT = 1
TOMBSTONE = b"""keyslice tombstone
What was stored here was erased, because a patient has withdrawn. It is no damage: the ledger
names the withdrawal, and everything else of this version is as it was.
"""
"""Stands, in old versions, where an exam of a patient who has withdrawn was stored."""


def dumps(exam: Exam) -> bytes:
    """The file's content; the same exam gives the same bytes."""
    encoded = exam.encoded or raw.encode(exam.frames)
    about = {
        "format": FORMAT,
        "codec": encoded.codec,
        "parameters": dict(encoded.parameters),
        "spacing": exam.spacing,
        "frame_time": exam.frame_time,
        "facts": dict(exam.facts),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about, sort_keys=True))
        for number, part in enumerate(encoded.parts):
            archive.writestr(zipfile.ZipInfo(f"{number:06d}"), part)
    return buffer.getvalue()


def save(exam: Exam, path: Path) -> None:
    """Write the file in one step."""
    with files.beside(path) as part:
        part.write_bytes(dumps(exam))


def is_tombstone(path: Path) -> bool:
    """Whether a file is the tombstone of what was erased; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(TOMBSTONE) + 1) == TOMBSTONE
    except OSError:
        return False


def load(file: Path | BinaryIO) -> Exam:
    """The exam in a file that `save` wrote.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile: it is no such file.
        Exception: whatever damaged data make a codec's library do.
    """
    with zipfile.ZipFile(file) as archive:
        about = json.loads(archive.read(ABOUT))
        parts = [archive.read(name) for name in sorted({*archive.namelist()} - {ABOUT}, key=int)]
    if about["format"] != FORMAT:
        raise ValueError(f"of format {about['format']}; known is {FORMAT}")
    return Exam(
        frames=codecs.decode(about["codec"], about["parameters"], parts),
        spacing=about["spacing"] and tuple(about["spacing"]),
        frame_time=about["frame_time"],
        facts=about["facts"],
    )

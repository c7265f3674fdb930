"""Exam formats by the ending of a file's name; a new format is one file and one line here."""

from importlib import import_module
from pathlib import Path

from keyslice.exams.exam import Exam
from keyslice.exams.source import UnreadableError

SUFFIXES = {".nii": "nifti", ".nii.gz": "nifti"}
"""Name of the format, which is that of its module here; the module's `read` reads it."""


def format_of(name: str) -> str | None:
    """The format that a file's name tells, None if it is none of ours."""
    name = name.lower()
    return next((form for suffix, form in SUFFIXES.items() if name.endswith(suffix)), None)


def read(path: Path, slice_axis: str | int = "auto") -> Exam:
    """Read an exam of any known format.

    Raises:
        UnreadableError: unknown format, or damaged.
    """
    form = format_of(path.name)
    if form is None:
        known = ", ".join(SUFFIXES)
        raise UnreadableError(f"the ending of its name is none of the known formats ({known})")
    # Imported when first used: listing a source needs no imaging library.
    return import_module(f"keyslice.exams.{form}").read(path, slice_axis)

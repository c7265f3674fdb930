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
    reader = import_module(f"keyslice.exams.{form}")
    try:
        return reader.read(path, slice_axis)
    except UnreadableError:
        raise
    except Exception as error:  # whatever a damaged file makes a library do
        raise UnreadableError(
            f"damaged, truncated or not really {form}{_reason(error, path)}"
        ) from None


def _reason(error: Exception, path: Path) -> str:
    """A library's message in short; none where it quotes the path, which may name a person."""
    if isinstance(error, MemoryError):
        return ": it asks for more memory than there is"
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if not text or "/" in text or "\\" in text or path.name in text:
        return ""
    return f": {type(error).__name__}: {text}"[:120]

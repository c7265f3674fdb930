"""Exam formats by the ending of a file's name; a new format is one file and one line here."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from keyslice.exams.exam import Exam
from keyslice.exams.source import Reading, SourceFile, UnreadableError

FORMATS = {
    "nifti": (".nii", ".nii.gz"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "video": (".mp4", ".m4v", ".mov", ".mpeg", ".mpg", ".avi", ".mkv", ".webm", ".wmv", ".gif"),
    "images": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
    "arrays": (".npy", ".npz"),
}
"""Name of each format, which is that of its module here, and the endings it is known by. A module's
`read(files, reading)` reads an exam. DICOM files are known by their content, too."""
_BY_ENDING = {ending: form for form, endings in FORMATS.items() for ending in endings}


def format_of(name: str) -> str | None:
    """The format that a file's name tells, None if it is none of ours."""
    _, *parts = name.lower().rsplit(".", 2)
    endings = ("." + ".".join(parts[-count:]) for count in (2, 1))
    return next((_BY_ENDING[ending] for ending in endings if ending in _BY_ENDING), None)


def read(form: str, files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read an exam.

    Args:
        form: of `FORMATS`.
        files: it is made of.
        reading: how.

    Raises:
        UnreadableError: damaged, not supported, or larger than the limits allow.
    """
    # Imported when first used: listing a source needs no imaging library.
    reader = import_module(f"keyslice.exams.formats.{form}")
    try:
        return reader.read(files, reading)
    except UnreadableError:
        raise
    except Exception as error:  # whatever a damaged file makes a library do
        names = {part for file in files for part in Path(file.name).parts}
        raise UnreadableError(
            f"damaged, truncated or not really {form}{_reason(error, names)}"
        ) from None


def _reason(error: Exception, names: set[str]) -> str:
    """A library's message in short; none where it quotes the path, which may name a person."""
    if isinstance(error, MemoryError):
        return ": it asks for more memory than there is"
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if not text or "/" in text or "\\" in text or any(name in text for name in names):
        return ""
    return f": {type(error).__name__}: {text}"[:120]

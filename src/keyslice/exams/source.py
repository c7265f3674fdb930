"""What a source offers: one listing per exam, its pixels read only when asked for."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keyslice.exams.exam import Exam

UNKNOWN = "unknown"
"""Stands for a patient, site, date or modality that the source does not tell."""


class UnreadableError(Exception):
    """A file that cannot become an exam; the message says why, in words, without its name."""


@dataclass(frozen=True)
class Listing:
    """One exam of a source, before it is read.

    Args:
        name: the original name, `printable`; for the terminal and the quarantine list only.
        stamp: changes when the file's content or the way of reading it may have changed.
        patient: (issuer, patient id), or None where a public set has no ids.
        label: one of the dataset's classes.
        read: gives the exam; raises UnreadableError.
        source_format: the reader's name.
        label_source: where the label was read.
        split: the official split, where there is one.
        informative: ascending numbers of the frames known to carry the finding, from 0 in the
            order in which the file has them; None: not known.
        modality: of the acquisition, as the source names it.
        site: where the exam was made.
        acquired: ISO date.
    """

    name: str
    stamp: str
    patient: tuple[str, str] | None
    label: str
    read: Callable[[], Exam]
    source_format: str
    label_source: str
    split: str | None = None
    informative: tuple[int, ...] | None = None
    modality: str = UNKNOWN
    site: str = UNKNOWN
    acquired: str = UNKNOWN


@dataclass(frozen=True)
class Unlisted:
    """A file of a known format that the source's table does not name."""

    name: str
    reason: str


class KnownFile(NamedTuple):
    """What need not be read from a file again."""

    exam: str
    """Its id."""
    reversed: bool
    """See `Exam.reversed`; the same exam may come from files of either order."""


def printable(path: str) -> str:
    r"""A path as text that can be written: bytes that are no UTF-8 as in `M\xfcller.nii`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def stamp(*parts: object) -> str:
    """A short digest of parts that together tell one state of one file from every other."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def file_state(status: os.stat_result) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds: what a changed file is known by."""
    return status.st_size, status.st_mtime_ns

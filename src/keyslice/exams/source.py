"""What a source offers: files, and one listing per exam, its pixels read only when asked for."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple

from keyslice.config import Limits
from keyslice.exams.exam import Exam

UNKNOWN = "unknown"
"""Stands for a patient, site, date or modality that the source does not tell."""


class UnreadableError(Exception):
    """Files that cannot become an exam; the message says why, and of several which is at fault.

    It may name a file, so it is for the terminal and the quarantine list only.
    """


class StillArrivingError(UnreadableError):
    """A file changed while it was read: to be looked at again at the next ingestion."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source: on the disk, or a member of a zip archive there.

    Args:
        name: relative to the source, `printable`; of a member `archive.zip/member`.
        path: where it lies; of a member, the archive.
        size: bytes.
        time: of change, nanoseconds; of a member, the archive's.
        member: its name in the archive; empty of a file on the disk.
    """

    name: str
    path: str | Path
    size: int
    time: int
    member: str = ""

    def open(self) -> BinaryIO:
        """Its content, seekable; a member is held in memory.

        Raises:
            UnreadableError: it cannot be opened, or not be taken out of its archive.
        """
        if not self.member:
            return self._whole()
        return io.BytesIO(self._taken_out(lambda stream: stream.read()))

    def start(self, size: int) -> bytes:
        """Its first bytes; of a member no more than these are inflated. Raises as `open`."""
        if self.member:
            return self._taken_out(lambda stream: stream.read(size))
        with self._whole() as stream:
            return stream.read(size)

    def _whole(self) -> BinaryIO:
        try:
            return Path(self.path).open("rb")
        except OSError as error:
            raise UnreadableError(f"it cannot be opened ({error.strerror})") from None

    def _taken_out(self, read: Callable[[IO[bytes]], bytes]) -> bytes:
        try:
            with _archive(self.path, self.time).open(self.member) as stream:
                return read(stream)
        except MemoryError:
            raise
        except Exception as error:  # damaged, encrypted, changed meanwhile, of an unknown kind, …
            raise UnreadableError(
                f"it cannot be taken out of its archive ({type(error).__name__})"
            ) from None


@lru_cache(maxsize=2)
def _archive(path: str | Path, time: int) -> zipfile.ZipFile:
    """Opened once for members that follow one another: its directory may list 100,000."""
    return zipfile.ZipFile(path)


@dataclass(frozen=True)
class Reading:
    """How exams are read: settings of a dataset that readers need to know.

    Args:
        slice_axis: see `FolderDataset.slice_axis`.
        burned_in: what to do with files that do not say that no text is burned into their pixels.
        limits: what an exam may have at most.
    """

    slice_axis: Literal["auto", 0, 1, 2] = "auto"
    burned_in: Literal["flag", "quarantine"] = "flag"
    limits: Limits = field(default_factory=Limits)

    def check_size(self, frames: int, height: int, width: int, sample_bytes: int) -> None:
        """To be called by readers before they decode.

        Args:
            frames: of the exam.
            height: pixels.
            width: pixels.
            sample_bytes: of one pixel, all channels.

        Raises:
            UnreadableError: more than the limits allow.
        """
        limits = self.limits
        for what, has, most, setting in (
            ("frames", frames, limits.frames, "frames"),
            ("pixels a frame", height * width, limits.pixels, "pixels"),
            ("bytes", frames * height * width * sample_bytes, limits.memory, "memory"),
        ):
            if has > most:
                raise UnreadableError(
                    f"it has {has:,} {what}; at most {most:,} are taken (limits.{setting})"
                )


@dataclass(frozen=True, slots=True)
class Listing:
    """One exam of a source, before it is read.

    Args:
        name: the original name, `printable`; for the terminal and the quarantine list only.
        files: that it is made of.
        stamp: changes when the file's content or the way of reading it may have changed.
        patient: (issuer, patient id), or None where a public set has no ids.
        label: one of the dataset's classes.
        read: gives the exam; raises UnreadableError. Called in another process.
        source_format: the reader's name.
        label_source: where the label was read.
        split: the official split, where there is one.
        informative: ascending numbers of the frames known to carry the finding, from 0 in the
            order in which the file has them; None: not known.
        modality: of the acquisition, as the source names it; empty: as the file tells.
        site: where the exam was made.
        acquired: ISO date; empty: as the file tells.
        labeller: who labelled it.
        place: stands for where it lies; another exam at the same place replaces the one before.
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
    modality: str = ""
    site: str = UNKNOWN
    acquired: str = ""
    labeller: str = ""
    files: int = 1
    place: str = ""


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

"""One exam: its frames as acquired, what is known of their geometry, and a name made of content."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keyslice import files

DTYPES = ("uint8", "int16", "float32")
FACTS = ("orientation", "slice_axis", "source_dtype")
"""Acquisition facts an exam may carry; none of them can identify a person.

`orientation` has a letter for each axis of the file, the end that it runs towards (R or L, A or P,
S or I); `slice_axis` is the axis of the image turned to RAS+ that the frames run along.
"""
PLANES = ("sagittal", "coronal", "axial")
"""Of slices, by `slice_axis`."""
AGAINST = "LPI"
"""The ends that a file's axis runs towards where frames run against it, by `slice_axis`."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Frames of one volume or video.

    Args:
        frames: (T, H, W) or, in colour, (T, H, W, 3); uint8, int16 or float32, without NaN or ∞.
        spacing: millimetres between frames, rows and columns, where known; see `known_measure`.
        frame_time: milliseconds from one frame to the next, where known.
        facts: acquisition facts, names from `FACTS` only.

    Raises:
        ValueError: a rule above is broken.
    """

    frames: np.ndarray
    spacing: tuple[float, float, float] | None = None
    frame_time: float | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, dtype = self.frames.shape, self.frames.dtype.name
        if dtype not in DTYPES:
            raise ValueError(f"frames are {dtype}; they must be one of {', '.join(DTYPES)}")
        if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape:
            raise ValueError(f"frames have shape {shape}; it must be (T, H, W) or (T, H, W, 3)")
        if dtype == "float32" and not np.isfinite(self.frames).all():
            raise ValueError("some samples are not finite numbers (NaN or infinity)")
        if self.spacing is not None and known_spacing(self.spacing) is None:
            raise ValueError(f"spacing is {self.spacing}; it must be finite and above zero")
        if self.frame_time is not None and known_measure(self.frame_time) is None:
            raise ValueError(f"frame_time is {self.frame_time}; it must be finite and above zero")
        if unknown := sorted(set(self.facts) - set(FACTS)):
            raise ValueError(f"facts {unknown} are not in the list of facts that may be kept")

    @property
    def channels(self) -> int:
        return 1 if self.frames.ndim == 3 else 3

    @property
    def plane(self) -> str | None:
        """That the frames are slices in; None where they are no slices, or nobody knows."""
        axis = self.facts.get("slice_axis")
        return None if axis is None else PLANES[int(axis)]

    @property
    def reversed(self) -> bool:
        """Whether the frames run against the order in which the file has them.

        People number frames as the file has them; see `from_other_end`.
        """
        axis = self.facts.get("slice_axis")
        return axis is not None and AGAINST[int(axis)] in str(self.facts["orientation"])


def from_other_end(numbers: Sequence[int], count: int) -> list[int]:
    """The same frames of `count`, numbered from the other end; ascending where `numbers` are."""
    return [count - 1 - number for number in reversed(numbers)]


def known_measure(value: float) -> float | None:
    """A length or time as a header has it; None, not known, unless finite and above zero."""
    return value if math.isfinite(value) and value > 0 else None


def known_spacing(values: Iterable[float]) -> tuple[float, float, float] | None:
    """Three lengths; None where one of them is not known."""
    between, rows, columns = map(known_measure, values)
    if between is None or rows is None or columns is None:
        return None
    return between, rows, columns


def exam_id(frames: np.ndarray) -> str:
    """32 hex digits of SHA-256 over dtype, shape and samples (C order, little endian).

    The same content is the same exam, however its array lies in memory and whatever file held it.
    """
    digest = hashlib.sha256(f"{frames.dtype.name} {frames.shape}\n".encode())
    digest.update(_plain(frames).data)
    return digest.hexdigest()[:32]


def exam_path(folder: Path, exam: str) -> Path:
    """Where the exam with this id lies in a dataset's folder."""
    return folder / f"{exam}.npz"


def save(exam: Exam, path: Path) -> None:
    """Write a compressed .npz; the same exam gives the same bytes."""
    arrays = {"frames": _plain(exam.frames)}
    if exam.spacing is not None:
        arrays["spacing"] = np.array(exam.spacing, dtype="<f8")
    if exam.frame_time is not None:
        arrays["frame_time"] = np.array(exam.frame_time, dtype="<f8")
    arrays["facts"] = np.array(json.dumps(dict(exam.facts), sort_keys=True))
    with files.beside(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load(file: Path | BinaryIO) -> Exam:
    """The exam in a file that `save` wrote.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile: it is no such file.
    """
    with np.load(file, allow_pickle=False) as arrays:
        # Older files may hold measures that are none.
        return Exam(
            frames=arrays["frames"],
            spacing=known_spacing(map(float, arrays["spacing"])) if "spacing" in arrays else None,
            frame_time=known_measure(float(arrays["frame_time"]))
            if "frame_time" in arrays
            else None,
            facts=json.loads(str(arrays["facts"])),
        )


def _plain(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("<"))

"""One exam: its frames as acquired, what is known of their geometry, and a name made of content."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

DTYPES = ("uint8", "int16", "float32")
FACTS = {
    "orientation": "a letter for each axis of the file, the end that it runs towards: R or L, A or "
    "P, S or I",
    "slice_axis": "the axis of the image turned to RAS+ that the frames run along",
    "source_dtype": "type of the samples in the file",
    "burned_in": "what the file says of text burned into its pixels: yes, no or unknown",
    "localizers": "slices left out because they only show where the others lie",
    "duplicate_slices": "slices left out because another one is the same",
    "missing_slices": "gaps, in slices, between the positions of those that are there",
    "rotation": "degrees, clockwise, that the frames were turned by for viewing",
    "mirrored": "1 where frames were mirrored, left to right, before they were turned",
    "variable_rate": "1 where the time from frame to frame varies; frame_time is then its median",
    "coding": "how the source had compressed the samples",
    "slice_thickness": "mm",
    "field_strength": "tesla",
    "tube_voltage": "kV",
    "echo_time": "ms",
    "repetition_time": "ms",
    "manufacturer": "of the device, where it is one of a list; else other",
}
"""Acquisition facts an exam may carry; none of them can identify a person: numbers, and words that
a reader takes from a fixed list of its own, never from free text."""
CODES = frozenset({"slice_axis", "rotation", "mirrored", "variable_rate"})
"""Facts that are numbers by name only: of two of them neither is more than the other."""
FACT_WORD = re.compile(r"[A-Za-z0-9_.-]{1,32}")
PLANES = ("sagittal", "coronal", "axial")
"""Of slices, by `slice_axis`."""
AGAINST = "LPI"
"""The ends that a file's axis runs towards where frames run against it, by `slice_axis`."""


@dataclass(frozen=True)
class Encoded:
    """Frames as their source had them compressed, without what might identify a person.

    An exam that carries this is stored so: stored without loss, it would take many times the space.

    Args:
        codec: module of `keyslice.exams.codecs` whose `decode(parameters, parts)` gives the frames,
            sample for sample those of the exam.
        parameters: what the codec needs to know; JSON.
        parts: compressed data.
    """

    codec: str
    parameters: Mapping[str, Any]
    parts: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Exam:
    """Frames of one volume or video.

    Args:
        frames: (T, H, W) or, in colour, (T, H, W, 3); uint8, int16 or float32, without NaN or ∞.
        spacing: millimetres between frames, rows and columns, where known; see `known_measure`.
        frame_time: milliseconds from one frame to the next, where known.
        facts: acquisition facts, names from `FACTS` only.
        modality: that the file tells: CT, MR, US, …; not part of the stored file.
        acquired: ISO date that the file tells; not part of the stored file.
        encoded: how to store the frames; None: as they are, losslessly compressed.

    Raises:
        ValueError: a rule above is broken.
    """

    frames: np.ndarray
    spacing: tuple[float, float, float] | None = None
    frame_time: float | None = None
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    modality: str = ""
    acquired: str = ""
    encoded: Encoded | None = None

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
        for name, value in self.facts.items():
            if isinstance(value, str) and not FACT_WORD.fullmatch(value):
                raise ValueError(f"fact {name} is no word of letters and digits")

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
        return axis is not None and AGAINST[int(axis)] in str(self.facts.get("orientation"))


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
    """32 hex digits of BLAKE3 over dtype, shape and samples (C order, little endian).

    The same content is the same exam, however its array lies in memory and whatever file held it.
    SHA-256 would take longer than decoding most videos does.
    """
    digest = blake3(f"{frames.dtype.name} {frames.shape}\n".encode())
    digest.update(_plain(frames).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def exam_path(folder: Path, exam: str) -> Path:
    """Where the exam with this id lies in a dataset's folder."""
    return folder / exam_name(exam)


def exam_name(exam: str) -> str:
    """The name of its file."""
    return f"{exam}.zip"


def _plain(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("<"))

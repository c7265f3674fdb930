"""One exam: its frames as acquired, what is known of their geometry, and a name made of content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keyslice import files

DTYPES = ("uint8", "int16", "float32")
FACTS = ("orientation", "slice_axis", "source_dtype")
"""Acquisition facts an exam may carry; none of them can identify a person."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Frames of one volume or video.

    Args:
        frames: (T, H, W) or, in colour, (T, H, W, 3); uint8, int16 or float32, without NaN or ∞.
        spacing: millimetres between frames, rows and columns, where known.
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
        if unknown := sorted(set(self.facts) - set(FACTS)):
            raise ValueError(f"facts {unknown} are not in the list of facts that may be kept")

    @property
    def channels(self) -> int:
        return 1 if self.frames.ndim == 3 else 3


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
        spacing = tuple(map(float, arrays["spacing"])) if "spacing" in arrays else None
        return Exam(
            frames=arrays["frames"],
            spacing=spacing,  # type: ignore[arg-type]  # three values, as saved
            frame_time=float(arrays["frame_time"]) if "frame_time" in arrays else None,
            facts=json.loads(str(arrays["facts"])),
        )


def _plain(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("<"))

"""What a worker does with one exam: read it, name it by its content, store it, describe it."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keyslice import files
from keyslice.exams import container
from keyslice.exams.dhash import difference_hash
from keyslice.exams.exam import Exam, exam_id, exam_path
from keyslice.exams.source import StillArrivingError, UnreadableError

SAMPLED = 2**14
"""Samples, about, that intensities are told from."""


@dataclass(frozen=True)
class Taken:
    """A stored exam.

    Args:
        exam: its id.
        reversed: see `Exam.reversed`.
        row: columns of the manifest that follow from its content.
        part: the file to store, beside its place.
    """

    exam: str
    reversed: bool
    row: dict[str, Any]
    part: Path


@dataclass(frozen=True)
class Fault:
    """Why an exam was not taken.

    Args:
        reason: in words.
        arriving: only not yet.
        lasting: it lies in the file; else another try may end otherwise.
    """

    reason: str
    arriving: bool = False
    lasting: bool = True


def take(read: Callable[[], Exam], folder: Path) -> Taken | Fault:
    """Write the exam that `read` gives into a file beside its place in the folder.

    Not into its place: the same frames may be stored differently when they come from another
    format, and what a manifest names stays as it is.
    """
    try:
        return _taken(read(), folder)
    except MemoryError:
        return Fault("it asks for more memory than reading may take", lasting=False)
    except StillArrivingError as error:
        return Fault(str(error), arriving=True)
    except UnreadableError as error:
        return Fault(str(error))


def _taken(exam: Exam, folder: Path) -> Taken:
    name = exam_id(exam.frames)
    content = container.dumps(exam)
    part = files.hidden(exam_path(folder, name), ".zip")
    folder.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    row = _row(exam) | {"exam_id": name, "sha256": hashlib.sha256(content).hexdigest()}
    return Taken(name, exam.reversed, row, part)


def _row(exam: Exam) -> dict[str, Any]:
    count, height, width = exam.frames.shape[:3]
    between, rows, columns = exam.spacing or (None, None, None)
    return {
        "frames": count,
        "height": height,
        "width": width,
        "channels": exam.channels,
        "dtype": exam.frames.dtype.name,
        "frame_spacing": between,
        "row_spacing": rows,
        "column_spacing": columns,
        "frame_time": exam.frame_time,
        "facts": json.dumps(dict(exam.facts), sort_keys=True),
        "difference_hash": difference_hash(exam.frames),
        "constant_frames": sum(_constant(frame) for frame in exam.frames),
        **_intensities(exam.frames),
        "modality": exam.modality,
        "acquired": exam.acquired,
    }


def _constant(frame: np.ndarray) -> bool:
    """Whether all pixels of a frame (H,W) or (H,W,3) are the same."""
    some = frame[:: frame.shape[0] // 16 + 1, :: frame.shape[1] // 16 + 1]
    return bool((some == frame[0, 0]).all() and (frame == frame[0, 0]).all())


def _intensities(frames: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and the 1st and 99th percentile of evenly spaced samples."""
    step, row = max(1, frames.size // SAMPLED), int(np.prod(frames.shape[2:]))
    while math.gcd(step, row) > 1:  # else some columns, or colours, alone would be seen
        step += 1
    samples = frames.reshape(-1)[::step].astype(np.float64)
    low, high = np.percentile(samples, (1, 99))
    return {
        "intensity_mean": float(samples.mean()),
        "intensity_sd": float(samples.std()),
        "intensity_low": float(low),
        "intensity_high": float(high),
    }

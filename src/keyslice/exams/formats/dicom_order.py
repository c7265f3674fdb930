"""The order of a DICOM series' slices in space or time, and how they are turned to be seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from keyslice.exams.exam import known_spacing
from keyslice.exams.formats.dicom_file import Vector
from keyslice.exams.source import UnreadableError

SAME_PLACE = 1e-3
"""Millimetres that positions of one and the same slice may differ by."""
SAME_DIRECTION = 1e-2
"""The same, of the components of directions' unit vectors."""
NEAR_MULTIPLE = 0.2
"""A gap is one of whole slices where it is as near as this, in slices, to a multiple."""
TIMES = ("temporal position", "trigger time", "acquisition number", "echo time")
ENDS = ("LR", "PA", "IS")
"""That an axis of RAS+ runs between."""
TRIGGER_TIME = TIMES.index("trigger time")


@dataclass(frozen=True)
class Slice:
    """A frame of a DICOM object.

    Args:
        file: number of the file, in the order of names.
        frame: its number in the file.
        instance: InstanceNumber.
        position: of its first pixel, LPS, mm.
        directions: LPS unit vectors along its rows and along its columns.
        pixel_spacing: mm between rows and between columns.
        thickness: mm, from slice to slice if that is told.
        times: by `TIMES`, each None where it is not told; milliseconds of times.
        rescale: slope and intercept.
    """

    file: int
    frame: int
    instance: float | None
    position: Vector | None
    directions: Vector | None
    pixel_spacing: Vector | None
    thickness: float | None
    times: tuple[float | None, ...]
    rescale: tuple[float, float]


class Turn(NamedTuple):
    """What is done to a slice as stored, in this order."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


@dataclass(frozen=True)
class Order:
    """Slices in the order of an exam's frames.

    Args:
        slices: without those left out.
        turn: of each.
        spacing: mm between frames, rows and columns, as turned.
        frame_time: ms, where frames follow in time.
        facts: of `keyslice.exams.exam.FACTS`.
    """

    slices: Sequence[Slice]
    turn: Turn = field(default_factory=Turn)
    spacing: tuple[float, float, float] | None = None
    frame_time: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def ordered(slices: Sequence[Slice], same: Callable[[Slice, Slice], bool]) -> Order:
    """Along the normal of the slices; in time where all have one position; else by number.

    Frames of a volume run towards right, front or head, and each is turned as `exams.nifti` says.

    Args:
        slices: at least one, those of a file by their numbers in it.
        same: whether two have the same samples.

    Raises:
        UnreadableError: orientations differ, or there are several slices at a position.
    """
    if any(one.position is None or one.directions is None for one in slices):
        if any(one.position is not None and one.directions is not None for one in slices):
            raise UnreadableError("some of its slices tell their position, others do not")
        return Order(_by_number(slices))
    directions = np.array([one.directions for one in slices])
    if (np.abs(directions - directions[0]) > SAME_DIRECTION).any():
        raise UnreadableError("its slices have more than one orientation")
    along_row, along_column = directions[0].reshape(2, 3)
    normal = np.cross(along_row, along_column)
    heights = np.array([one.position for one in slices]) @ normal
    groups = _places(heights)
    if len(groups) == 1 and len(slices) > 1:
        in_time = _in_time(slices)
        if in_time is not None:
            return in_time
    kept = [_without_repeats([slices[n] for n in group], same) for group in groups]
    if several := max(map(len, kept)) - 1:
        raise UnreadableError(
            f"it has {several + 1} different slices at one position ({sum(map(len, kept))} at "
            f"{len(kept)}): series of several times, echoes or phases are not supported"
        )
    return _volume(
        [one for (one,) in kept],
        [float(heights[group[0]]) for group in groups],
        np.stack([along_row, along_column, normal], axis=1),
        duplicates=len(slices) - len(kept),
    )


def _by_number(slices: Sequence[Slice]) -> list[Slice]:
    """A file's own order where it has several frames; else by instance number, else by name."""
    if any(one.instance is None for one in slices):
        return [*slices]
    return sorted(slices, key=lambda one: (one.instance, one.file, one.frame))


def _places(heights: np.ndarray) -> list[list[int]]:
    """Numbers of the slices at each position, ascending."""
    groups: list[list[int]] = []
    for n in map(int, np.argsort(heights, kind="stable")):
        if groups and heights[n] - heights[groups[-1][0]] <= SAME_PLACE:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def _in_time(slices: Sequence[Slice]) -> Order | None:
    """Slices of one position, if it is known how they follow each other."""
    if len({one.file for one in slices}) == 1:
        return Order(slices)
    for which in range(len(TIMES)):
        times = [one.times[which] for one in slices]
        known = [time for time in times if time is not None]
        if len(set(known)) == len(slices):
            order = np.argsort(known)
            steps = np.diff(np.sort(known))
            step = float(np.median(steps)) if which == TRIGGER_TIME else None
            return Order([slices[n] for n in order], frame_time=step)
    return None


def _without_repeats(group: Sequence[Slice], same: Callable[[Slice, Slice], bool]) -> list[Slice]:
    kept: list[Slice] = []
    for one in group:
        if not any(same(one, other) for other in kept):
            kept.append(one)
    return kept


def _volume(
    slices: list[Slice], heights: list[float], directions: np.ndarray, duplicates: int
) -> Order:
    """Slices of different positions.

    Args:
        slices: ascending along the normal.
        heights: of each along it, mm.
        directions: (3, 3), LPS; columns are those along rows, along columns, along the normal.
        duplicates: slices left out.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ directions  # RAS
    turned = nib.orientations.io_orientation(affine)
    if not np.isfinite(turned).all() or not np.isfinite(directions).all():
        raise UnreadableError("its header has no valid ImageOrientationPatient")
    axes, signs = turned[:, 0].astype(int), turned[:, 1].astype(int)
    axis = int(axes[2])
    columns = next(a for a in range(3) if a != axis)
    transpose = bool(axes[0] != columns)
    sign_columns, sign_rows = (signs[1], signs[0]) if transpose else (signs[0], signs[1])
    if signs[2] < 0:
        slices = slices[::-1]
    # Files have no order among each other; the frames of one have.
    backwards = len({one.file for one in slices}) == 1 and slices[-1].frame < slices[0].frame
    ends = (signs[0], signs[1], -1 if backwards else 1)
    steps = np.diff(heights)
    facts: dict[str, str | int | float] = {
        "orientation": "".join(ENDS[a][int(s > 0)] for a, s in zip(axes, ends, strict=True)),
        "slice_axis": axis,
    }
    if duplicates:
        facts["duplicate_slices"] = duplicates
    if missing := _missing(steps):
        facts["missing_slices"] = missing
    between = _typical(steps) if len(steps) else slices[0].thickness
    pixel = slices[0].pixel_spacing
    spacing = None
    if between and pixel:
        rows, cols = reversed(pixel) if transpose else pixel
        spacing = known_spacing((round(between, 6), rows, cols))
    return Order(
        slices, Turn(transpose, bool(sign_rows > 0), bool(sign_columns > 0)), spacing, None, facts
    )


def _typical(steps: np.ndarray) -> float:
    """The lower median: a gap between three slices is none of the two usual ones."""
    return float(np.sort(steps)[(len(steps) - 1) // 2])


def _missing(steps: np.ndarray) -> int:
    """Slices that would fit into the gaps."""
    if len(steps) < 2:
        return 0
    slices = steps / _typical(steps)
    near = np.abs(slices - slices.round()) <= NEAR_MULTIPLE
    return int((slices.round()[near] - 1).clip(0).sum())

"""Contact sheets: an exam's frames in a row, those that a variant kept marked.

The pixels of an exam stand in the report once, as a strip of its frames; each variant's sheet is a
list of tiles that show parts of the strip.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

TILE_PIXELS = 72
"""Frames above this size are shrunk to it."""
MOST_TILES = 60
"""Longer exams are shown by so many of their frames, evenly spread."""


@dataclass(frozen=True)
class Tile:
    """One frame of a sheet."""

    frame: int
    """Its number in the exam, from 0."""
    offset: int
    """Its place in the strip, from 0."""
    times: int
    """How often it was kept; more than once with samplers that repeat frames, 0: not kept."""
    attention: float
    """Its weight in the classifier, summed over repeats."""
    informative: bool


@dataclass(frozen=True)
class Exam:
    """The exam of a sheet."""

    exam_id: str
    label: str
    frames: int
    strip: str
    """A PNG of the shown frames side by side, as a data: address."""
    shown: tuple[int, ...]
    """Numbers of the frames in the strip."""


def choose(rows: pd.DataFrame, number: int) -> list[str]:
    """The ids of `number` exams to show: the classes in turn, from the last, each by id.

    Exams with known informative frames come first, for there a miss can be seen.
    """
    exams = rows.drop_duplicates("exam_id").sort_values("exam_id")
    unknown = [found is None or len(found) == 0 for found in exams["informative"]]
    ordered = exams.assign(unknown=unknown).sort_values("unknown", kind="stable")
    ordered["turn"] = ordered.groupby("label").cumcount()
    ordered = ordered.sort_values(["turn", "label"], ascending=[True, False], kind="stable")
    return ordered["exam_id"].head(number).tolist()


def exam(exam_id: str, label: str, frames: np.ndarray) -> Exam:
    """An exam's frames (T,C,H,W), uint8, made a strip."""
    spread = np.linspace(0, len(frames) - 1, min(len(frames), MOST_TILES))
    shown = spread.round().astype(int)
    return Exam(exam_id, label, len(frames), strip(frames[shown]), tuple(shown.tolist()))


def tiles(row: pd.Series, shown: Sequence[int]) -> list[Tile]:
    """The tiles of one prediction (one exam, variant and seed) for the frames `shown`."""
    weights: dict[int, list[float]] = {}
    for frame, weight in zip(row["kept"], row["attention"], strict=True):
        weights.setdefault(int(frame), []).append(float(weight))
    informative = set() if row["informative"] is None else set(row["informative"])
    return [
        Tile(
            frame,
            offset,
            len(weights.get(frame, ())),
            sum(weights.get(frame, ())),
            frame in informative,
        )
        for offset, frame in enumerate(shown)
    ]


def strip(frames: np.ndarray) -> str:
    """(T,C,H,W) uint8 as one PNG, T·W pixels wide, as a data: address.

    C is 1 (grey) or 3 (red, green, blue).
    """
    _, channels, height, width = frames.shape
    side_by_side = np.concatenate(list(frames.transpose(0, 2, 3, 1)), axis=1)
    image = Image.fromarray(side_by_side[:, :, 0] if channels == 1 else side_by_side)
    scale = min(1.0, TILE_PIXELS / max(height, width))
    if scale < 1:
        size = (round(width * scale) * len(frames), round(height * scale))
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""One exam as a picture: its frames in a grid, those that a model kept marked, and what it said.

Nothing on it names a person: no file name, no patient, not even a pseudonym.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from keyslice.evaluation.sheet_grid import Box, Grid
from keyslice.prepared import thinned

MOST, FEWEST_OTHERS = 100, 25
"""Frames of an exam that are shown, unless more were kept; and those not kept, beside many kept."""
WIDTH, MARGIN = 1800, 48
FRAME_LINE = 4
"""Pixels of the line around a kept frame; it lies outside the frame's own pixels."""
GROUND, TRACK, INK, FAINT = "#0f1318", "#242b35", "#e6eaf0", "#8b96a5"
INFORMATIVE = "#ffffff"
MOST_CLASSES = 12

_NAMES_X, _BARS_X = 1010, 1290
_LINE = 30


@dataclass(frozen=True)
class Verdict:
    """What a model made of the exam.

    Args:
        model: its name and version.
        variant: in words.
        colour: `#rrggbb`, of the variant.
        probabilities: by class.
        kept: numbers of frames, from 0, ascending; one kept twice stands there twice.
        attention: the weight of each of them.
    """

    model: str
    variant: str
    colour: str
    probabilities: Mapping[str, float]
    kept: Sequence[int]
    attention: Sequence[float]

    def weights(self) -> dict[int, list[float]]:
        """By frame, the weights that it had."""
        found: dict[int, list[float]] = {}
        for frame, weight in zip(self.kept, self.attention, strict=True):
            found.setdefault(frame, []).append(weight)
        return found


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is on the picture.

    Args:
        title: the exam's id.
        facts: names and values, in words.
        frames: (N, H, W) or (N, H, W, 3) uint8, those that are shown.
        numbers: N numbers of them in the exam.
        count: frames of the exam.
        aspect: width of a frame over its height, as the patient has them.
        informative: numbers of the frames known to carry the finding.
        label: the exam's; empty: not known.
        verdict: None: nothing is marked.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    frames: np.ndarray
    numbers: Sequence[int]
    count: int
    aspect: float
    informative: frozenset[int] = frozenset()
    label: str = ""
    verdict: Verdict | None = None

    @property
    def grid(self) -> Grid:
        return Grid.fit(len(self.numbers), self.aspect, WIDTH - 2 * MARGIN)

    @property
    def grid_top(self) -> int:
        """Where the grid begins, pixels from the picture's top."""
        lines = max(len(self.facts), len(self._classes()) + 1 if self.verdict else 1)
        return MARGIN + 64 + _LINE * lines + 84

    def box(self, position: int) -> Box:
        """Where the frame at this position lies on the picture."""
        left, top, right, bottom = self.grid.box(position)
        down = self.grid_top
        return Box(left + MARGIN, top + down, right + MARGIN, bottom + down)

    def _classes(self) -> list[tuple[str, float]]:
        """Names and probabilities; of many classes the most probable, then all others as one."""
        values = list(self.verdict.probabilities.items()) if self.verdict else []
        if len(values) <= MOST_CLASSES:
            return values
        values.sort(key=lambda pair: -pair[1])
        rest = values[MOST_CLASSES - 1 :]
        return [*values[: MOST_CLASSES - 1], (f"{len(rest)} others", sum(p for _, p in rest))]


def shown(count: int, kept: Sequence[int]) -> np.ndarray:
    """Numbers of the frames to show, ascending: every kept one, the rest evenly thinned."""
    always = np.unique(np.asarray(kept, dtype=np.int64))
    others = np.setdiff1d(np.arange(count), always)
    room = max(MOST - len(always), FEWEST_OTHERS)
    return np.union1d(always, others[thinned(len(others), room)])


def draw(sheet: Sheet) -> Image.Image:
    """The picture, `WIDTH` pixels wide; the same sheet gives the same pixels."""
    grid = sheet.grid
    image = Image.new("RGB", (WIDTH, sheet.grid_top + grid.total + MARGIN), GROUND)
    pen = ImageDraw.Draw(image)
    _text(pen, (MARGIN, MARGIN), sheet.title, 28, INK, font="DejaVuSansMono")
    for line, (name, value) in enumerate(sheet.facts):
        y = MARGIN + 64 + line * _LINE
        _text(pen, (MARGIN, y), name, 17, FAINT)
        _text(pen, (MARGIN + 150, y), value, 17, INK, width=_NAMES_X - MARGIN - 190)
    _head(pen, sheet)
    _legend(pen, sheet)
    weights = sheet.verdict.weights() if sheet.verdict else {}
    heaviest = _heaviest(weights)
    size = (grid.width, grid.height)
    for position, (number, frame) in enumerate(zip(sheet.numbers, sheet.frames, strict=True)):
        box = sheet.box(position)
        image.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), box[:2])
        _caption(pen, box, number, sheet, weights.get(number, []), heaviest)
    return image


def on_dark(colour: str) -> str:
    """The colour a third of the way to white: a variant's, seen on the sheet's ground."""
    return "#" + "".join(f"{part + (255 - part) // 3:02x}" for part in ImageColor.getrgb(colour))


def _head(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    """At the right: the model, and a bar for each class."""
    if sheet.verdict is None:
        _text(pen, (_NAMES_X, MARGIN + 64), "no model: nothing is marked", 17, FAINT)
        return
    colour = on_dark(sheet.verdict.colour)
    room = WIDTH - MARGIN - _NAMES_X
    _text(pen, (_NAMES_X, MARGIN + 6), sheet.verdict.model, 20, INK, bold=True, width=room)
    y = MARGIN + 64
    _text(pen, (_NAMES_X, y), sheet.verdict.variant, 17, FAINT, width=room)
    best = max(sheet.verdict.probabilities.values())
    right = WIDTH - MARGIN - 80
    for name, value in sheet._classes():
        y += _LINE
        first = value == best
        words = f"{name} (label)" if name == sheet.label else name
        ink = INK if first or name == sheet.label else FAINT
        _text(pen, (_NAMES_X, y), words, 17, ink, width=_BARS_X - _NAMES_X - 20, bold=first)
        pen.rectangle((_BARS_X, y + 5, right, y + 16), fill=TRACK)
        if (length := round((right - _BARS_X) * value)) > 0:
            pen.rectangle(
                (_BARS_X, y + 5, _BARS_X + length, y + 16), fill=colour if first else FAINT
            )
        _text(pen, (WIDTH - MARGIN, y), f"{value:.3f}", 17, ink, anchor="ra", bold=first)


def _legend(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    """The line above the grid: what the marks mean."""
    y = sheet.grid_top - 52
    pen.line((MARGIN, y - 20, WIDTH - MARGIN, y - 20), fill=TRACK, width=1)
    x = MARGIN
    if sheet.verdict is not None:
        colour, weights = on_dark(sheet.verdict.colour), sheet.verdict.weights()
        pen.rectangle((x, y + 2, x + 18, y + 17), outline=colour, width=FRAME_LINE)
        x = _text(pen, (x + 30, y), f"kept: {len(weights)} of {sheet.count}", 16, INK) + 36
        pen.rectangle((x, y + 7, x + 44, y + 12), fill=TRACK)
        pen.rectangle((x, y + 7, x + 30, y + 12), fill=colour)
        words = f"attention weight; a full bar is {_heaviest(weights):.3f}"
        x = _text(pen, (x + 56, y), words, 16, INK) + 36
    if sheet.informative:
        pen.ellipse((x, y + 5, x + 9, y + 14), fill=INFORMATIVE)
        x = _text(pen, (x + 20, y), f"informative: {len(sheet.informative)}", 16, INK) + 36
    words = "numbered from 0, as the file has them"
    if len(sheet.numbers) < sheet.count:
        words = f"{len(sheet.numbers)} of {sheet.count} frames shown, {words}"
    _text(pen, (WIDTH - MARGIN, y), words, 16, FAINT, anchor="ra")


def _caption(
    pen: ImageDraw.ImageDraw,
    box: Box,
    number: int,
    sheet: Sheet,
    weights: Sequence[float],
    heaviest: float,
) -> None:
    """Around and below a frame: whether it was kept, how much it weighed, its number."""
    y = box.bottom + 12
    if sheet.verdict is not None and weights:
        colour = on_dark(sheet.verdict.colour)
        around = (
            box.left - FRAME_LINE,
            box.top - FRAME_LINE,
            box.right + FRAME_LINE - 1,
            box.bottom + FRAME_LINE - 1,
        )
        pen.rectangle(around, outline=colour, width=FRAME_LINE)
        bar = (box.left, box.bottom + 8, box.right - 1, box.bottom + 12)
        pen.rectangle(bar, fill=TRACK)
        length = round((box.right - box.left) * sum(weights) / heaviest) if heaviest else 0
        if length:
            pen.rectangle((*bar[:2], box.left + length - 1, bar[3]), fill=colour)
    times = f" ×{len(weights)}" if len(weights) > 1 else ""
    ink = INK if weights else FAINT
    _text(pen, (box.left, y + 3), f"{number}{times}", 13, ink, bold=bool(weights))
    if number in sheet.informative:
        pen.ellipse((box.right - 10, y + 6, box.right - 2, y + 14), fill=INFORMATIVE)


def _heaviest(weights: Mapping[int, Sequence[float]]) -> float:
    return max(map(sum, weights.values()), default=0.0)


def _text(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    words: str,
    size: int,
    ink: str,
    *,
    font: str = "DejaVuSans",
    bold: bool = False,
    width: int | None = None,
    anchor: str = "la",
) -> int:
    """Write one line, cut to `width` pixels; where it ends."""
    face = _font(f"{font}-Bold" if bold else font, size)
    words = " ".join(words.split())
    if width is not None and pen.textlength(words, face) > width:
        while words and pen.textlength(f"{words}…", face) > width:
            words = words[:-1]
        words += "…"
    pen.text(place, words, ink, face, anchor=anchor)
    return round(place[0] + pen.textlength(words, face))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib's: Pillow's own has no letters beyond ASCII, and classes may be named in others.
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)

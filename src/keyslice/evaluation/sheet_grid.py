"""Where the frames of a contact sheet lie: a grid that fills its width, all cells of one size."""

import math
from dataclasses import dataclass
from typing import NamedTuple

GAP = 14
"""Pixels between cells; the marks of a kept frame lie in it."""
CAPTION = 28
"""Pixels below each frame: the bar of its weight, its number."""
LONGEST, SHORTEST = 400, 60
"""Of a frame's sides, pixels; a frame longer than wide may be narrower."""
COMFORTABLE = 1300
"""Pixels; a grid grows higher than that only where its frames would be too small to see."""


class Box(NamedTuple):
    """Pixels; left and top belong to it, right and bottom do not."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Grid:
    """Args: cells in all and in a row, and the size of the frame in each, pixels."""

    count: int
    columns: int
    width: int
    height: int

    @classmethod
    def fit(cls, count: int, aspect: float, across: int) -> "Grid":
        """The largest frames whose rows still make a page.

        Args:
            count: of frames.
            aspect: width of a frame over its height.
            across: pixels that there are for a row.
        """
        best = None
        for columns in range(1, count + 1):
            room = (across - (columns - 1) * GAP) // columns
            width = max(1, min(room, LONGEST, int(LONGEST * aspect)))
            height = max(1, round(width / aspect))
            grid = cls(count, columns, width, height)
            if best is not None and min(width, height) < SHORTEST:
                break
            best = grid
            if columns * (width + GAP) + width > across and grid.total <= COMFORTABLE:
                break
        assert best is not None
        return best

    @property
    def total(self) -> int:
        """Height of all rows, pixels."""
        return math.ceil(self.count / self.columns) * (self.height + CAPTION + GAP) - GAP

    def box(self, position: int) -> Box:
        """Where the frame at this position lies, counted from the grid's own corner."""
        row, column = divmod(position, self.columns)
        left, top = column * (self.width + GAP), row * (self.height + CAPTION + GAP)
        return Box(left, top, left + self.width, top + self.height)

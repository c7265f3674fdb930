"""Phantom videos: ultrasound-like, of a stomach's antrum that only some frames show.

Modelled on gastric ultrasound, where the antrum's content is graded. Speckle lies over
everything; between the frames with the antrum there are others: plain tissue, episodes of high
gain, and empty ones where the probe lost contact.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

CLASSES = ("empty", "clear_fluid", "solid", "thick_fluid", "mixed")
SIDE = 48
FRAMES = (24, 60)
ANTRUM_SHARE = (0.2, 0.4)
"""Of the frames; they come in one to three episodes."""
EPISODE = (3, 8)
"""Frames of an episode of tissue, high gain or lost contact."""

Grid = tuple[np.ndarray, np.ndarray]
"""Row and column of each pixel relative to the antrum: its wall lies where y² + x² = 1."""


def draw(label: str, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Frames (T, 48, 48) uint8, and the numbers of those that show the antrum."""
    count = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    states = _states(count, rng)
    echo = _tissue(count, rng)
    centre = rng.uniform(SIDE * 0.4, SIDE * 0.6, size=2)
    radii = rng.uniform((9, 12), (12, 16)) * (0.55 if label == "empty" else 1.0)
    drift = gaussian_filter(rng.normal(size=(count, 2)), sigma=(3, 0)) * 4
    texture = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 1.0)
    texture /= texture.std()
    y, x = np.mgrid[:SIDE, :SIDE]
    for t in np.flatnonzero(states == "antrum"):
        row, column = centre + drift[t]
        grid = ((y - row) / radii[0], (x - column) / radii[1])
        _antrum(echo[t], grid, CONTENTS[label](grid, texture))
    # Fully developed speckle multiplies the echo; the average of a few looks is less coarse.
    speckle = rng.gamma(shape=6.0, scale=1 / 6.0, size=echo.shape)
    frames = echo * gaussian_filter(speckle, sigma=(0, 0.5, 0.5))
    frames[states == "gain"] *= 2.6
    frames[states == "lost"] = _lost(int((states == "lost").sum()), rng)
    informative = np.flatnonzero(states == "antrum").tolist()
    return np.clip(frames, 0, 255).round().astype(np.uint8), informative


def _states(count: int, rng: np.random.Generator) -> np.ndarray:
    """What each frame shows: antrum, tissue, gain or lost, (count,) text."""
    shown = round(rng.uniform(*ANTRUM_SHARE) * count)
    states = np.empty(count, dtype="<U6")
    t = 0
    while t < count:
        length = int(rng.integers(EPISODE[0], EPISODE[1] + 1))
        states[t : t + length] = rng.choice(["tissue", "gain", "lost"], p=[0.4, 0.35, 0.25])
        t += length
    episodes = int(rng.integers(1, 4))
    cuts = np.sort(rng.choice(np.arange(1, shown), size=episodes - 1, replace=False))
    gaps = rng.multinomial(count - shown, np.full(episodes + 1, 1 / (episodes + 1)))
    start = 0
    for gap, length in zip(gaps, np.diff([0, *cuts, shown]), strict=False):
        start += gap
        states[start : start + length] = "antrum"
        start += length
    return states


def _tissue(count: int, rng: np.random.Generator) -> np.ndarray:
    """Layered echo that weakens with depth, (count, SIDE, SIDE)."""
    layers = gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), sigma=(3, 1.5, 5))
    depth = np.linspace(1.15, 0.75, SIDE)[None, :, None]
    return np.maximum(80 * depth * (1 + 0.25 * layers / layers.std()), 5)


def _antrum(echo: np.ndarray, grid: Grid, content: np.ndarray) -> None:
    """Put the antrum into one frame: a dark muscular wall, a bright inner line, its content."""
    distance = np.hypot(*grid)
    echo[distance < 1.25] = 25
    echo[distance < 1.05] = 150
    inside = distance < 0.9
    echo[inside] = content[inside]


def _empty(grid: Grid, texture: np.ndarray) -> np.ndarray:
    """Collapsed: wall against wall, a bright point in the middle."""
    return np.where(np.hypot(*grid) < 0.35, 170.0, 30.0)


def _clear_fluid(grid: Grid, texture: np.ndarray) -> np.ndarray:
    """Without echo."""
    return np.full(texture.shape, 8.0)


def _solid(grid: Grid, texture: np.ndarray) -> np.ndarray:
    """Bright and coarse in front, in its own shadow behind."""
    return np.clip(170 - 70 * grid[0], 0, None) + 35 * texture


def _thick_fluid(grid: Grid, texture: np.ndarray) -> np.ndarray:
    """Grey, with fine bright points."""
    return np.where(texture > 1.3, 150.0, 65.0)


def _mixed(grid: Grid, texture: np.ndarray) -> np.ndarray:
    """Fluid in front, solid matter that has sunk behind it."""
    return np.where(grid[0] < 0, 8.0, 165 + 35 * texture)


CONTENTS: dict[str, Callable[[Grid, np.ndarray], np.ndarray]] = {
    "empty": _empty,
    "clear_fluid": _clear_fluid,
    "solid": _solid,
    "thick_fluid": _thick_fluid,
    "mixed": _mixed,
}


def _lost(count: int, rng: np.random.Generator) -> np.ndarray:
    """Air under the probe: bright echoes of its face near the top, darkness below."""
    rows = np.arange(SIDE)
    rings = 90 * np.exp(-rows / 6) * (1 + np.cos(rows * 2 * np.pi / 5)) / 2
    return rings[None, :, None] + np.abs(rng.normal(0, 3, (count, SIDE, SIDE)))

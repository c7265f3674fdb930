"""Phantom volumes: tissue, a lesion in a few slices, and distractors that stand out more than it.

A lesion is a soft bright spot. More than half of the other slices show bone-like bars and vessel
cross-sections, in both classes: more variance and more edges than a lesion has. A sampler that
goes by either raw measure keeps the distractors and misses the lesion.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

CLASSES = ("healthy", "lesion")
SIDE = 48
SLICES = (20, 40)
LESION_SLICES = (3, 5)
DISTRACTED = (0.55, 0.65)
"""Share of the slices outside the lesion's range that hold distractors."""


def draw(label: str, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Slices (T, 48, 48) uint8, and the numbers of those that show the lesion."""
    count = int(rng.integers(SLICES[0], SLICES[1] + 1))
    slices = _tissue(count, rng)
    extent = int(rng.integers(LESION_SLICES[0], LESION_SLICES[1] + 1))
    first = int(rng.integers(1, count - extent))
    place = list(range(first, first + extent))
    # Healthy exams keep the same range free, so that distractors tell nothing about the class.
    others = np.setdiff1d(np.arange(count), place)
    share = rng.uniform(*DISTRACTED)
    for t in rng.choice(others, size=round(share * count), replace=False):
        slices[t] += _distractors(rng)
    if label == "lesion":
        slices[place] += _lesion(extent, rng)
    slices += rng.normal(0, 3, slices.shape)
    return np.clip(slices, 0, 255).round().astype(np.uint8), place if label == "lesion" else []


def _tissue(count: int, rng: np.random.Generator) -> np.ndarray:
    """Texture that changes slowly from slice to slice, (count, SIDE, SIDE)."""
    noise = gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), sigma=(1, 3, 3), mode="wrap")
    return 80 + 8 * noise / noise.std() + rng.normal(0, 3)


def _lesion(extent: int, rng: np.random.Generator) -> np.ndarray:
    """A soft ball, (extent, SIDE, SIDE): strongest in its middle slice."""
    row, column = rng.uniform(SIDE * 0.25, SIDE * 0.75, size=2)
    radius, brightness = rng.uniform(6.0, 8.0), rng.uniform(55, 75)
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.exp(-((((y - row) ** 2 + (x - column) ** 2) / radius**2) ** 2))
    along = (np.arange(extent) - (extent - 1) / 2) / extent
    return brightness * (1 - along**2)[:, None, None] * disc


def _distractors(rng: np.random.Generator) -> np.ndarray:
    """Thin bright bars and small bright discs with hard edges, (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    marks = np.zeros((SIDE, SIDE), dtype=bool)
    for _ in range(rng.integers(2, 4)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * SIDE
        across = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle) - offset
        marks |= np.abs(across) < 1.5
    for _ in range(rng.integers(2, 5)):
        row, column = rng.uniform(4, SIDE - 4, size=2)
        marks |= (y - row) ** 2 + (x - column) ** 2 < 2.5**2
    return marks * rng.uniform(110, 150)

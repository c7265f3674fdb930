"""A perceptual hash of exams: near-duplicates lie near, whatever their size, coding or brightness.

The difference hash of Krawetz (2013), "Kind of Like That": whether brightness rises from each cell
of a coarse grid to the next one in its row.
"""

import numpy as np

PLACES = (1, 2, 3)
"""Frames that are looked at, in quarters of the exam."""
ROWS, COLUMNS = 8, 9
"""Of the grid; a frame has ROWS · (COLUMNS - 1) = 64 bits."""
LEAST_RISE = 0.01
"""Of the grid's range; less, as in empty background, is noise and counts as none."""


def difference_hash(frames: np.ndarray) -> str:
    """48 hex digits (192 bits) of exam frames (T, H, W) or (T, H, W, 3); constant frames: zeros."""
    height, width, *channels = frames.shape[1:]
    rows, columns = _means(ROWS, height), _means(COLUMNS, width)
    if channels:
        columns = np.repeat(columns / channels[0], channels[0], axis=1)
    hashes = []
    for place in PLACES:
        frame = frames[len(frames) * place // 4].reshape(height, -1).astype(np.float32)
        hashes.append(_bits(rows @ frame @ columns.T))
    return "".join(hashes)


def distance(one: str, other: str) -> int:
    """Bits that two hashes differ in: 0 of the same exam, about a quarter to half of unlike ones.

    Raises:
        ValueError: they are of different lengths, or no hex digits.
    """
    if len(one) != len(other):
        raise ValueError(f"hashes have {len(one)} and {len(other)} digits; they must have as many")
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _bits(grid: np.ndarray) -> str:
    # The second term: rounding, which alone tells the cells of a constant frame apart.
    least = LEAST_RISE * np.ptp(grid) + 1e-5 * np.abs(grid).max()
    return np.packbits(np.diff(grid, axis=1) > least).tobytes().hex()


def _means(cells: int, length: int) -> np.ndarray:
    """(cells, length): weights by which samples form the mean over each cell's share of them."""
    edges = np.arange(cells + 1) * (length / cells)
    samples = np.arange(length)
    start = np.maximum(edges[:-1, None], samples)
    end = np.minimum(edges[1:, None], samples + 1)
    return (np.maximum(end - start, 0) * (cells / length)).astype(np.float32)

"""Near-duplicates across splits: nearly the same picture in training and in a held-out split.

Hashes that differ in at most d bits agree in one of any d + 1 disjoint bands of bits (pigeonhole),
so only exams that share a band are compared, and no near pair is missed: multi-index hashing after
Norouzi et al. (2012), "Fast Search in Hamming Space with Multi-Index Hashing", with radius zero.
Where exams are so alike that most share a band, all are compared, which is then faster.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from keyslice.exams.split import SPLITS

MOST_BITS = 12
"""Of 192, that near-duplicates differ in at most; recoding, resizing and brightening stay below."""
FEWEST_SET = 2 * MOST_BITS
"""Bits set, and bits not set, below which hashes are alike because there is little in them."""
PAIRS_AT_ONCE = 2**20
"""Bounds memory: some 100 bytes for each."""
CANDIDATE_COST = 16
"""Time that a pair which shares a band takes, one of a block being 1; measured."""
BLOCK = (16, 4096)
NearRows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, others of a lower split, and the bits they differ in."""


class Near(NamedTuple):
    """A held-out exam and the nearest one of an earlier split."""

    exam: str
    """Of validation or test."""
    other: str
    """Of an earlier split."""
    bits: int
    """That their hashes differ in."""


def near_duplicates(table: pd.DataFrame, most: int = MOST_BITS) -> list[Near]:
    """Each held-out exam whose nearest of an earlier split differs in `most` bits or fewer.

    Exams that `plain` names are left out. Nearest pairs come first.

    Args:
        table: of a manifest: exam_id, split and difference_hash.
        most: bits that hashes may differ in.
    """
    words = _words(table)
    order = table["split"].map(SPLITS.index).to_numpy(np.uint64)
    told = np.flatnonzero(~_plain(words))
    # Equal hashes of one split are compared once.
    rows, first, member = np.unique(
        np.column_stack([order, words])[told], axis=0, return_index=True, return_inverse=True
    )
    nearest, bits = _nearest(rows[:, 1:], rows[:, 0].astype(np.int64), most)
    exams = table["exam_id"].to_numpy()
    found = [
        Near(exams[row], exams[told[first[nearest[one]]]], int(bits[one]))
        for row, one in zip(told, member.reshape(-1), strict=True)
        if nearest[one] >= 0
    ]
    return sorted(found, key=lambda pair: (pair.bits, pair.exam))


def plain(table: pd.DataFrame) -> list[str]:
    """Exams with too little in the frames that are hashed to be told from others by the hash.

    Constant frames are an example, and masks: their hashes are nearly all zeros.
    """
    return table["exam_id"][_plain(_words(table))].to_list()


def _words(table: pd.DataFrame) -> np.ndarray:
    """(N, 3) uint64."""
    digits = bytes.fromhex("".join(table["difference_hash"]))
    return np.frombuffer(digits, dtype=">u8").reshape(-1, 3).astype(np.uint64)


def _plain(words: np.ndarray) -> np.ndarray:
    ones = np.bitwise_count(words).sum(axis=1)
    return np.minimum(ones, 64 * words.shape[1] - ones) < FEWEST_SET


def _nearest(words: np.ndarray, order: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row the nearest one of a lower `order`, -1 where none is near, and their distance.

    Args:
        words: (N, 3) hashes.
        order: (N,) number of the split, ascending.
        most: distance of near ones.
    """
    count = len(words)
    # Distance and row in one number, so that the smallest is the nearest.
    best = np.full(count, np.iinfo(np.int64).max)
    keys = [*_bands(words, most + 1)]
    candidates = sum(int(_counts(np.sort(_ordered(key, order))).sum()) for key in keys)
    dense = candidates * CANDIDATE_COST > _counts(order).sum()
    near = _near_of_all if dense else partial(_near_of_bands, keys=keys)
    for left, right, bits in near(words, order, most):
        np.minimum.at(best, left, bits * count + right)
    known = best < np.iinfo(np.int64).max
    return np.where(known, best % max(count, 1), -1), best // max(count, 1)


def _bands(words: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """(N,) values of each of `count` bands that together hold every bit once.

    Bits that divide the exams most evenly are dealt out first, one to each band in turn: in bands
    of bits that hardly ever vary, as at a picture's dark edges, most exams would agree.
    """
    bits = np.unpackbits(words.astype(">u8").view(np.uint8), axis=1)
    evenness = np.abs(bits.mean(axis=0) - 0.5) if len(bits) else np.zeros(bits.shape[1])
    dealt = np.argsort(evenness, kind="stable")
    for band in range(count):
        own = bits[:, dealt[band::count]]
        yield own @ (1 << np.arange(own.shape[1], dtype=np.int64))


def _near_of_bands(
    words: np.ndarray, order: np.ndarray, most: int, keys: list[np.ndarray]
) -> Iterator[NearRows]:
    """Those among the rows that agree in one of `keys`; by portions."""
    for key in keys:
        ordered = _ordered(key, order)
        sequence = np.argsort(ordered, kind="stable")
        for left, right in _candidates(ordered[sequence]):
            one, other = sequence[left], sequence[right]
            bits = np.bitwise_count(words[one] ^ words[other]).sum(axis=1, dtype=np.int64)
            near = bits <= most
            yield one[near], other[near], bits[near]


def _near_of_all(words: np.ndarray, order: np.ndarray, most: int) -> Iterator[NearRows]:
    """Those among all rows; by portions that fit a processor's cache."""
    columns = np.ascontiguousarray(words.T)
    lower = np.searchsorted(order, order)
    height, width = BLOCK
    for top in range(0, len(words), height):
        for start in range(0, int(lower[top : top + height].max()), width):
            part = columns[:, None, start : start + width]
            bits = np.bitwise_count(columns[0, top : top + height, None] ^ part[0])
            for word, others in zip(columns[1:], part[1:], strict=True):
                bits += np.bitwise_count(word[top : top + height, None] ^ others)
            if bits.min() <= most:
                one, other = np.nonzero(bits <= most)
                held_out = start + other < lower[top + one]
                one, other = one[held_out], other[held_out]
                yield top + one, start + other, bits[one, other].astype(np.int64)


def _ordered(key: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Both in one number: sorted by key, then by order."""
    return key * len(SPLITS) + order


def _counts(ordered: np.ndarray) -> np.ndarray:
    """How many before each have the same key and a lower order; of `_ordered`, ascending."""
    return np.searchsorted(ordered, ordered) - _start(ordered)


def _start(ordered: np.ndarray) -> np.ndarray:
    """The first place with the same key."""
    return np.searchsorted(ordered, ordered // len(SPLITS) * len(SPLITS))


def _candidates(ordered: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places with the same key, the first of a higher order; by portions."""
    start, counts = _start(ordered), _counts(ordered)
    ends = np.cumsum(counts)
    done = 0
    while done < len(ordered):
        before = int(ends[done] - counts[done])
        # At least one place, however many it is to be compared with.
        stop = max(done + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
        own = slice(done, stop)
        left = np.repeat(np.arange(done, stop), counts[own])
        shift = np.repeat(start[own] - (ends[own] - counts[own]), counts[own])
        yield left, shift + np.arange(before, before + len(left))
        done = stop

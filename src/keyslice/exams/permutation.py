"""Two groups of exams compared by permuting patients.

Exams of one patient resemble each other, so that exams are not exchangeable; patients are. Each
patient counts once in a group, by the shares that his exams there have in the categories. Under no
shift, which patients are new is chance: group membership is drawn anew among the patients who are
in one group, and a patient who is in both may as well have his two parts the other way round (which
is exact where they are of one size, and nearly so where not).
Exams of unknown patients each count as a patient of their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], Array]
"""From the shares (…,C) in the reference and among the new to a figure (…)."""
AT_ONCE = 100
"""Draws; of 100,000 patients they take 80 MB."""
EQUAL = 1e-9
"""Statistics this close are one: the order of a sum moves its last digits."""


class Shares(NamedTuple):
    """Shares in C categories: of each of B blocks, a block being a patient's exams in one group."""

    of_block: Array
    """(B,C) rows that sum to 1."""
    new: NDArray[np.bool_]
    """(B,) which group each block is in."""
    patients: NDArray[np.int64]
    """(B,) whose; one in both groups has two blocks."""

    @property
    def counts(self) -> tuple[int, int]:
        """Patients in the reference and among the new."""
        return int((~self.new).sum()), int(self.new.sum())

    @property
    def means(self) -> tuple[Array, Array]:
        """(C,) in the reference and among the new, each patient counting once."""
        return self.of_block[~self.new].mean(0), self.of_block[self.new].mean(0)


def by_patient(
    categories: NDArray[np.int64], new: NDArray[np.bool_], patients: NDArray[np.int64]
) -> Shares:
    """Shares of each patient's exams, group by group.

    Args:
        categories: (N,) of each exam, numbers from 0.
        new: (N,) whether the exam is a new one.
        patients: (N,) numbers from 0.
    """
    blocks, index = np.unique(2 * patients + new, return_inverse=True)
    counted = np.zeros((len(blocks), int(categories.max()) + 1))
    np.add.at(counted, (index, categories), 1.0)
    return Shares(counted / counted.sum(1, keepdims=True), blocks % 2 == 1, blocks // 2)


def p_value(
    shares: Shares, statistic: Statistic, draws: int, generator: np.random.Generator
) -> tuple[float, Array]:
    """The statistic's p-value, and its values where nothing but chance sets the groups apart.

    The p-value is (1 + number of draws at or above what was observed) / (1 + draws): valid for any
    number of patients, and never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).

    Args:
        shares: of at least one block in each group.
        statistic: greater where the groups differ more.
        draws: R.
        generator: source of the draws.

    Returns:
        The p-value, and (R,) the statistic of each draw.
    """
    old, new = shares.means
    n_old, n_new = shares.counts
    total = n_old * old + n_new * new
    drawn = _sums(shares, draws, generator)
    found = statistic((total - drawn) / n_old, drawn / n_new)
    reached = int((found >= statistic(old, new) - EQUAL).sum())
    return (1 + reached) / (1 + draws), found


def _sums(shares: Shares, draws: int, generator: np.random.Generator) -> Array:
    """(R,C) sums of the shares over the blocks that a draw calls new."""
    _, first, count = np.unique(shares.patients, return_index=True, return_counts=True)
    single, both = first[count == 1], first[count == 2]
    # Of the blocks with one row of shares it only matters how many are drawn.
    rows, alike = _distinct(shares.of_block[single])
    # Blocks are sorted: a patient's in the reference, and after it the new one.
    change = shares.of_block[both + 1] - shares.of_block[both]
    changes, swaps = _distinct(change)
    new, unswapped = int(shares.new[single].sum()), shares.of_block[both].sum(0)
    # Both draw from the same law: one in time of the kinds of rows, the other of the rows.
    method = "marginals" if 10 * len(alike) < alike.sum() else "count"
    sums = np.empty((draws, shares.of_block.shape[1]))
    for start in range(0, draws, AT_ONCE):
        size = min(AT_ONCE, draws - start)
        drawn = generator.multivariate_hypergeometric(alike, new, size, method)
        swapped = generator.binomial(swaps, 0.5, (size, len(swaps)))
        sums[start : start + size] = drawn @ rows + swapped @ changes + unswapped
    return sums


def _distinct(rows: Array) -> tuple[Array, NDArray[np.int64]]:
    """The rows that differ, and how often each occurs."""
    if not len(rows):
        return rows, np.zeros(0, np.int64)
    # Compared as bytes: numpy's own way, by axis, takes many times as long.
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1] * rows.itemsize}").ravel()
    _, first, count = np.unique(whole, return_index=True, return_counts=True)
    return rows[first], count

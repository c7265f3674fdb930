"""Operating thresholds: the probability from which an exam is called positive for a class.

Each class is held against the rest. An exam is positive when its probability is at least the
threshold t, and t maximises Youden's J = sensitivity + specificity - 1 (Youden, Cancer 3:32-35,
1950). Of two classes only the second, the positive one, has a threshold.

The exams that thresholds are chosen on flatter the sensitivity and specificity found with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

RULE = (
    "for each class against the rest (of two classes: the second), the probability from which an "
    "exam is positive, at the highest sensitivity + specificity - 1 (Youden's J); of equal ones "
    "the most sensitive; half way to the next lower probability that was seen"
)


@dataclass(frozen=True)
class Threshold:
    """Of one class, with what it reached on the exams that it was chosen on."""

    threshold: float
    """Probability from which an exam is positive."""
    sensitivity: float
    """Share of the positive exams that reach it."""
    specificity: float
    """Share of the negative exams that stay below it."""
    positives: int
    """Exams of the class."""
    negatives: int
    """Exams of the other classes."""


def thresholds(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, Threshold | None]:
    """The threshold of each class; None where there are no exams of it, or of no other.

    Args:
        labels: (N,) class indices.
        probabilities: (N,C), one column for each class.
        classes: the C names.
    """
    first = 1 if len(classes) == 2 else 0
    return {
        name: _best(labels == column, probabilities[:, column])
        for column, name in enumerate(classes)
        if column >= first
    }


def _best(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Threshold | None:
    """Of exams that are positive (N,) or not, by their scores (N,)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not (positives and negatives):
        return None
    # Descending, from infinity, which nobody reaches, to the lowest score, which everyone does.
    false, true, reached = roc_curve(positive, scores, drop_intermediate=False)
    j = np.round(true - false, 12)  # equal ones would differ in their last digits
    best = int(np.flatnonzero(j == j.max())[-1])
    score, lower = reached[best], reached[best + 1] if best + 1 < len(reached) else 0.0
    between = (score + lower) / 2
    return Threshold(
        # Between neighbouring doubles there is none: the exam below would reach it.
        threshold=float(between if between > lower else score),
        sensitivity=float(true[best]),
        specificity=float(1 - false[best]),
        positives=positives,
        negatives=negatives,
    )

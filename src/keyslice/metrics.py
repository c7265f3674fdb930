"""Metrics of N predictions, on the exams themselves and on R resamples of them at once.

Each takes labels (N,), probabilities (N,C) and counts (N,R), how often resample r holds exam n,
and gives (R,) values; `once(N)` are the counts of the exams themselves. Written with counts
because 2,000 resamples of scikit-learn's functions take minutes; each equals scikit-learn's (where
that has one) on the repeated exams, which the tests hold it to.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Callable[[NDArray[np.int64], Array, Array], Array]


def once(exams: int) -> Array:
    """(N,1) counts: each exam once."""
    return np.ones((exams, 1))


def auc(labels: NDArray[np.int64], probabilities: Array, counts: Array) -> Array:
    """Area under the ROC curve as MedMNIST defines it.

    Two classes: of the second class's probability. More: the unweighted mean over the classes of
    one against the rest. A class that the labels lack (or that they all have) is left out; with
    none left the value is NaN.
    """
    classes = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    present = [c for c in classes if 0 < (labels == c).sum() < len(labels)]
    if not present:
        return np.full(counts.shape[1], np.nan)
    return np.mean([_roc(labels == c, probabilities[:, c], counts) for c in present], axis=0)


def _roc(positive: NDArray[np.bool_], scores: Array, counts: Array) -> Array:
    """(R,) share of positive-negative pairs in the right order, ties counting half."""
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # first of each group of equals
    ordered, is_positive = counts[order], positive[order, None]
    positives = np.add.reduceat(ordered * is_positive, ties, axis=0)
    negatives = np.add.reduceat(ordered * ~is_positive, ties, axis=0)
    below = np.cumsum(negatives, axis=0) - negatives
    return (positives * (below + negatives / 2)).sum(0) / (positives.sum(0) * negatives.sum(0))


def accuracy(labels: NDArray[np.int64], probabilities: Array, counts: Array) -> Array:
    """Share of the exams whose most probable class is theirs."""
    return _correct(labels, probabilities) @ counts / counts.sum(0)


def balanced_accuracy(labels: NDArray[np.int64], probabilities: Array, counts: Array) -> Array:
    """Unweighted mean of the classes' recalls, over the classes that the labels have."""
    members = labels == np.unique(labels)[:, None]
    right = (members * _correct(labels, probabilities)) @ counts
    return (right / (members @ counts)).mean(0)


def brier(labels: NDArray[np.int64], probabilities: Array, counts: Array) -> Array:
    """Brier's score: mean over the exams of the squared errors summed over all classes, 0 to 2.

    With two classes this is twice the one-sided score that some give.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return ((probabilities - truth) ** 2).sum(1) @ counts / counts.sum(0)


def calibration_error(
    labels: NDArray[np.int64], probabilities: Array, counts: Array, *, bins: int
) -> Array:
    """Expected calibration error (Guo et al., ICML 2017) of the most probable class.

    Bins of equal width over [0,1]; the mean over the bins, weighted by their exams, of
    |accuracy - confidence|.
    """
    gap = _correct(labels, probabilities) - probabilities.max(1)
    members = np.arange(bins)[:, None] == confidence_bins(probabilities, bins)
    return np.abs((members * gap) @ counts).sum(0) / counts.sum(0)


def confidence_bins(probabilities: Array, bins: int) -> NDArray[np.int64]:
    """(N,) the bin ((b/bins, (b+1)/bins]) that each exam's largest probability lies in."""
    return np.clip(np.ceil(probabilities.max(1) * bins).astype(np.int64) - 1, 0, bins - 1)


def _correct(labels: NDArray[np.int64], probabilities: Array) -> Array:
    return (probabilities.argmax(1) == labels).astype(np.float64)


METRICS: dict[str, Metric] = {
    "auc": auc,
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "brier": brier,
}
"""The metrics that get an interval. Calibration error does not: resampling inflates it, so that a
percentile interval can miss the value itself."""

"""Percentile bootstrap over patients, within classes, and paired differences of variants.

An interval here answers "how much would the figure move with other patients?". It leaves out how
much it would move with another training run: the spread over seeds stands beside it.
Where patients are unknown, exams are resampled as if independent, and intervals are too narrow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from keyslice.evaluation.predictions import Predicted
from keyslice.metrics import Metric, once

Array = NDArray[np.float64]


def resample(
    units: np.ndarray, labels: np.ndarray, resamples: int, rng: np.random.Generator
) -> Array:
    """Draw patients with replacement, within strata.

    A stratum is the set of labels that a patient's exams carry, so that every class keeps its
    patients in every resample, also where one patient has exams of several classes.

    Args:
        units: (N,) each exam's patient.
        labels: (N,) each exam's class.
        resamples: R.
        rng: the source of the draws; the same state and exams give the same resamples.

    Returns:
        (N,R) how often each resample holds each exam.
    """
    names, unit_of = np.unique(units.astype(str), return_inverse=True)
    carried = pd.Series(labels).groupby(unit_of).agg(lambda found: tuple(sorted(set(found))))
    drawn = np.empty((len(names), resamples))
    for stratum in sorted(set(carried)):
        members = np.flatnonzero([labels == stratum for labels in carried])
        shares = np.full(len(members), 1 / len(members))
        drawn[members] = rng.multinomial(len(members), shares, size=resamples).T
    return drawn[unit_of]


@dataclass(frozen=True)
class Estimate:
    """One figure of one variant: for each of S seeds, on the exams and on R resamples of them."""

    seeds: tuple[int, ...]
    by_seed: Array
    """(S,) on the exams themselves."""
    draws: Array
    """(S,R) on the resamples."""

    @property
    def mean(self) -> float:
        return float(self.by_seed.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN with one seed."""
        return float(self.by_seed.std(ddof=1)) if len(self.by_seed) > 1 else float("nan")

    def interval(self, confidence: float) -> tuple[float, float]:
        """Percentile interval of the mean over seeds."""
        return _percentiles(self.draws.mean(0), confidence)

    def minus(self, other: "Estimate") -> "Difference":
        """Paired difference; both must come from the same resamples.

        The pairs are the resamples. The seeds need not be the same: pairing them, too, would leave
        the mean over them as it is.

        Raises:
            ValueError: another number of resamples.
        """
        if self.draws.shape[1] != other.draws.shape[1]:
            raise ValueError("paired estimates need the same resamples")
        return Difference(self.mean - other.mean, self.draws.mean(0) - other.draws.mean(0))


@dataclass(frozen=True)
class Difference:
    """Of two variants' means over their seeds, on the exams and on the same R resamples of them."""

    mean: float
    """On the exams themselves."""
    draws: Array
    """(R,) on the resamples."""

    @property
    def standard_error(self) -> float:
        """Standard deviation over the resamples."""
        return float(self.draws.std(ddof=1))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Percentile interval."""
        return _percentiles(self.draws, confidence)


def _percentiles(draws: Array, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def estimate(
    metric: Metric | Callable[..., Array], predicted: Predicted, counts: Array
) -> Estimate:
    """`metric` for each seed of `predicted`, on its exams and on the resamples `counts` (N,R)."""
    both = np.hstack([once(len(predicted.labels)), counts])
    found = np.stack([metric(predicted.labels, p, both) for p in predicted.probabilities])
    return Estimate(predicted.seeds, found[:, 0], found[:, 1:])

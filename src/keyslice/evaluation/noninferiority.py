"""Paired comparison of two models on the same exams: is one worse than the other by a margin?

Bounds of the difference come from a Bayesian bootstrap over patients (Rubin, Ann. Stat. 9, 1981:
every patient weighs Exp(1)), to which one patient is added whom nobody has seen: for the lower
bound one of whom the challenger gets everything wrong and the reference nothing, for the upper
bound the reverse. For the mean of one bounded sample that is Gaffke's bound (Math. Methods Stat.
14, 2005; Learned-Miller and Thomas, arXiv:1905.06208), which no known distribution breaks.
The patient is of the class with the fewest patients, where one weighs most: so Fay and Feuer
(Stat. Med. 16, 1997) bound a weighted sum of rates.

Why not a standard error with a t quantile: a difference that few exams make is not seen in most
small test sets, and then the standard error is too small as well. Of challengers worse in AUC by
the margin of 0.05, at level 0.0025 with 75 patients of each class, DeLong's standard error passed
0.3 % where both models' scores are normal and the champion's AUC is 0.85, but 1.8 % at 0.97, and
3.5 % where the challenger fails on 5 % of one class and equals the champion on all others. With a
floor of margin (1 − margin) / n under the variance (as in Tango, Stat. Med. 17, 1998) it still
passed 1 to 1.6 % where a gain on most exams hides a failure on 10 or 20 %. The bound used here
passed 0.3 % or fewer in all of these (3,000 test sets each); with 200 patients of each class it
passed 62 to 100 % of equal models, the floor 68 to 87 %. tests/evaluation/test_gate_simulation.py
has these truths, too.

What it costs: a model that differs in nothing passes only where patients are many enough to have
shown the failure of a share `margin`: (1 − margin)ⁿ ≤ alpha.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from keyslice.evaluation.intervals import Array
from keyslice.metrics import Metric, once

CELLS = 200_000
"""Exams times resamples held at once; more no longer fit a processor's cache."""

Verdict = Literal["not inferior", "worse", "cannot tell"]


@dataclass(frozen=True)
class Comparison:
    """A challenger's figure and a reference's; more is better."""

    challenger: float
    reference: float
    low: float
    """One-sided lower bound of the difference, at level `alpha`."""
    high: float
    """One-sided upper bound, at level `alpha`."""
    standard_error: float
    """Of the difference; with the unseen patient, so that it is never 0."""
    margin: float
    alpha: float

    @property
    def difference(self) -> float:
        """The challenger's less the reference's."""
        return self.challenger - self.reference

    @property
    def verdict(self) -> Verdict:
        """Whether the difference is shown to be above −margin, or below it."""
        if self.low > -self.margin:
            return "not inferior"
        return "worse" if self.high < -self.margin else "cannot tell"

    @property
    def power(self) -> float:
        """Probability that an equally good challenger is shown not to be inferior.

        Of one that differs from the reference on as many exams as this one: its difference is
        normal around 0 with the same standard error, and its bound as far below it.
        """
        return float(norm.cdf((self.margin - self._reach) / self.standard_error))

    def margin_for(self, power: float) -> float:
        """The margin at which these exams would have `power`."""
        return float(self._reach + norm.ppf(power) * self.standard_error)

    @property
    def _reach(self) -> float:
        return self.difference - self.low


def compare(
    metric: Metric,
    labels: NDArray[np.int64],
    units: np.ndarray,
    challenger: Array,
    reference: Array,
    *,
    margin: float,
    alpha: float,
    resamples: int,
    seed: int,
) -> Comparison:
    """Hold `challenger` against `reference` in a metric of which more is better.

    The level is honest for the draws that are made: the bound is the k-th smallest of R draws with
    k = ⌊alpha (R + 1)⌋, below which a further draw falls with probability k / (R + 1).

    Args:
        metric: of the order of the probabilities (auc) or of the most probable class (accuracy,
            balanced accuracy): it sees probabilities beyond 0 and 1 for the unseen patient.
        labels: (N,) class indices.
        units: (N,) each exam's patient; the exam where nobody knows whose it is.
        challenger: (N,C) probabilities.
        reference: (N,C) of the same exams.
        margin: by less than this the challenger may be worse.
        alpha: one-sided level of each bound.
        resamples: R; at least 1 / alpha.
        seed: of the draws; the same exams in the same order give the same figures.

    Raises:
        ValueError: too few resamples for the level, or the metric is not defined on these exams.
    """
    rank = int(alpha * (resamples + 1) + 1e-9)
    if rank < 1:
        raise ValueError(f"{resamples} resamples cannot tell of a level of {alpha:g}")
    models = (challenger, reference)
    figures = [float(metric(labels, model, once(len(labels)))[0]) for model in models]
    if not np.isfinite(figures).all():
        raise ValueError("the metric is not defined on these exams")
    label, best, worst, exams = _unseen(labels, units, challenger.shape[1])
    extended = np.append(labels, label)
    draws = {"low": [], "high": []}
    for counts in _weights(units, exams, resamples, np.random.default_rng(seed)):
        for end, (mine, theirs) in (("low", (worst, best)), ("high", (best, worst))):
            first, second = (
                metric(extended, np.vstack([model, row]), counts)
                for model, row in ((challenger, mine), (reference, theirs))
            )
            draws[end].append(first - second)
    low, high = (np.sort(np.concatenate(parts)) for parts in draws.values())
    return Comparison(
        challenger=figures[0],
        reference=figures[1],
        low=float(low[rank - 1]),
        high=float(high[-rank]),
        standard_error=float(low.std(ddof=1)),
        margin=margin,
        alpha=alpha,
    )


def _unseen(
    labels: NDArray[np.int64], units: np.ndarray, classes: int
) -> tuple[int, Array, Array, float]:
    """The patient nobody has seen.

    Returns:
        The class; (C,) probabilities beyond those of any exam that are right in order and in the
        most probable class, and ones that are wrong in both; how many exams a patient of that class
        has, on average.
    """
    present, exams = np.unique(labels, return_counts=True)
    patients = np.array([len(np.unique(units[labels == c].astype(str))) for c in present])
    fewest = int(patients.argmin())
    label = int(present[fewest])
    # Taken for a class that is present, so that it harms that one's order, too.
    other = int(present[(fewest + 1) % len(present)]) if len(present) > 1 else (label + 1) % classes
    best, worst = np.full((2, classes), -1.0)
    best[label], worst[other] = 2.0, 2.0
    return label, best, worst, float(exams[fewest] / patients[fewest])


def _weights(
    units: np.ndarray, unseen: float, resamples: int, rng: np.random.Generator
) -> Iterator[Array]:
    """(N+1,r) weights of the exams, then of the unseen patient's; r adds up to `resamples`."""
    names, unit_of = np.unique(units.astype(str), return_inverse=True)
    step = max(1, CELLS // (len(units) + 1))
    for start in range(0, resamples, step):
        # A row is a resample: what is drawn does not depend on how many are drawn at once.
        drawn = rng.standard_exponential((min(step, resamples - start), len(names) + 1)).T
        yield np.vstack([drawn[unit_of], drawn[-1:] * unseen])

"""Has the expected calibration error risen? The challenger's against the champion's."""

from functools import partial

import numpy as np
from scipy.stats import t as student

from keyslice.config import Promote
from keyslice.evaluation.criterion import Criterion, Verdict
from keyslice.evaluation.intervals import Array, resample
from keyslice.evaluation.subgroups import Exams
from keyslice.metrics import calibration_error, once

RESAMPLES = 2000
"""For a standard error, which fewer draws give than a bound."""


def calibration(
    plan: Promote, exams: Exams, challenger: Array, champion: Array, alpha: float
) -> Criterion:
    """The observed difference ± t · its standard error over paired resamples of patients.

    Percentiles would not do: resampling inflates the error itself, of both models.

    Args:
        plan: margin, bins and seed.
        exams: N test exams.
        challenger: (N,C) probabilities.
        champion: (N,C)
        alpha: one-sided level.
    """
    metric = partial(calibration_error, bins=plan.calibration_bins)
    rng = np.random.default_rng(plan.seed)
    counts = resample(exams.units, exams.labels, RESAMPLES, rng)
    both = np.hstack([once(len(exams.labels)), counts])
    mine, theirs = (metric(exams.labels, one, both) for one in (challenger, champion))
    difference, draws = float(mine[0] - theirs[0]), mine[1:] - theirs[1:]
    patients = len(np.unique(exams.units.astype(str)))
    reach = float(student.isf(alpha, max(1, patients - 1)) * draws.std(ddof=1))
    low, high, margin = difference - reach, difference + reach, plan.calibration_margin
    outcome: Verdict = "holds" if high < margin else "fails" if low > margin else "cannot tell"
    return Criterion(
        name="calibration error against the champion",
        group="calibration",
        outcome=outcome,
        blocks=outcome == "fails",
        words={
            "holds": f"It has risen by less than {margin:g}, if at all.",
            "fails": f"It has risen by more than {margin:g}.",
            "cannot tell": f"Whether it has risen by {margin:g} cannot be told from these exams.",
        }[outcome],
        estimate=float(mine[0]),
        reference=float(theirs[0]),
        difference=difference,
        low=low,
        high=high,
        margin=margin,
    )

"""Which variant and seed is put forward for registration; test data play no part in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keyslice.evaluation.summary import Assessment


@dataclass(frozen=True)
class Candidate:
    """The chosen variant and run; figures are of the validation split."""

    variant: str
    seed: int
    validation_auc: float
    """Of the chosen seed's run."""
    standard_error: float
    """Of the best candidate's mean AUC."""
    macs: float
    """Multiply-accumulates per exam."""
    reason: str


def choose(
    validation: Mapping[str, Assessment], candidates: Sequence[str], within: float
) -> Candidate:
    """The cheapest of `candidates` within `within` standard errors of the best, and its best seed.

    AUC is the mean over seeds; its standard error the standard deviation of that mean over the
    bootstrap resamples of the validation patients; the cost the mean multiply-accumulates per
    exam. Of equally cheap ones the better is taken, of equally good seeds the lower number.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("there is no candidate to choose from")
    auc = {name: validation[name].estimates["auc"] for name in candidates}
    macs = {name: float(validation[name].figures["macs"].mean()) for name in candidates}
    best = max(candidates, key=lambda name: auc[name].mean)
    error = auc[best].standard_error
    close = [name for name in candidates if auc[name].mean >= auc[best].mean - within * error]
    chosen = min(close, key=lambda name: (macs[name], -auc[name].mean))
    run = int(np.argmax(auc[chosen].by_seed))
    seed, value = auc[chosen].seeds[run], float(auc[chosen].by_seed[run])
    reason = (
        f"Candidates within {within:g} × the standard error ({error:.3f}) of the best"
        f" validation AUC ({auc[best].mean:.3f}, {best}): {', '.join(close)}."
        f" The cheapest of these is {chosen}, with {macs[chosen] / 1e6:.1f} million"
        f" multiply-accumulates per exam and an AUC of"
        f" {auc[chosen].mean:.3f}. Its best run on validation is seed {seed} ({value:.3f})."
    )
    return Candidate(chosen, seed, value, error, macs[chosen], reason)

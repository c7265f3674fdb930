"""Which variant and seed is put forward for registration; test data play no part in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from keyslice.evaluation.intervals import Estimate
from keyslice.evaluation.summary import NAMES, PAIRED, Assessment

EQUAL_COST = 0.01
"""Share by which costs may differ and count as the same: what is left of a sampler's own cost when
the kept frames are equally many."""


@dataclass(frozen=True)
class Candidate:
    """The chosen variant and run; figures are of the validation split."""

    variant: str
    seed: int
    validation_auc: float
    """Of the chosen seed's run."""
    macs: float
    """Multiply-accumulates per exam."""
    reason: str
    warning: str
    """What speaks against it in any case; empty: nothing."""


def choose(
    validation: Mapping[str, Assessment],
    candidates: Sequence[str],
    within: float,
    once: Mapping[str, Assessment] = MappingProxyType({}),
    confidence: float = 0.95,
) -> Candidate:
    """The cheapest of `candidates` within `within` standard errors of the best, and its best seed.

    AUC is the mean over a variant's own seeds. The standard error is that of the paired difference
    to the best: its standard deviation over the bootstrap resamples of the validation patients,
    who are the same for all. The cost is the mean multiply-accumulates per exam. Of those that
    cost the same within EQUAL_COST the best is taken, of equally good seeds the lower number.

    Args:
        validation: figures on the validation split, by variant.
        candidates: of these variants.
        within: standard errors.
        once: of variants that look more than once, the same with one look.
        confidence: of intervals.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("there is no candidate to choose from")
    auc = {name: validation[name].estimates["auc"] for name in candidates}
    macs = {name: float(validation[name].figures["macs"].mean()) for name in candidates}
    best = max(candidates, key=lambda name: auc[name].mean)
    close = [name for name in candidates if _behind(auc[best], auc[name]) <= within]
    least = min(macs[name] for name in close)
    cheap = [name for name in close if macs[name] <= least * (1 + EQUAL_COST)]
    chosen = max(cheap, key=lambda name: auc[name].mean)
    run = int(np.argmax(auc[chosen].by_seed))
    seed, value = auc[chosen].seeds[run], float(auc[chosen].by_seed[run])
    reason = (
        f"Candidates within {within:g} standard error{'' if within == 1 else 's'} of the best"
        f" validation AUC ({auc[best].mean:.3f}, {best}), compared in pairs: {', '.join(close)}."
        f" Cheapest of these{_equals(cheap)} is {chosen}, with {macs[chosen] / 1e6:.1f} million"
        f" multiply-accumulates per validation exam and an AUC of"
        f" {auc[chosen].mean:.3f}. Its best run on validation is seed {seed} ({value:.3f})."
    )
    warnings = [
        _of_one_class(validation[chosen], seed),
        _loses(validation[chosen], once.get(chosen), confidence),
    ]
    warning = " ".join(filter(None, warnings))
    return Candidate(chosen, seed, value, macs[chosen], reason, warning)


def _of_one_class(validation: Assessment, seed: int) -> str:
    if validation.figures["classes_given"][seed] > 1:
        return ""
    return (
        "This run gives every validation exam the same class: its ranking may still be of use,"
        " its decisions are of none. More exams or more epochs may help."
    )


def _loses(often: Assessment, once: Assessment | None, confidence: float) -> str:
    """Whether it would be better off with one look."""
    if once is None:
        return ""
    for metric in PAIRED:
        gain = often.estimates[metric].minus(once.estimates[metric])
        low, high = gain.interval(confidence)
        if high < 0:
            return (
                f"With one look its {NAMES[metric]} on validation exams is higher, by"
                f" {-gain.mean:.3f} ({-high:.3f} to {-low:.3f}): evaluate.test_time costs it that."
            )
    return ""


def _behind(best: Estimate, one: Estimate) -> float:
    """By how many standard errors of their paired difference the best's AUC is above this one's."""
    difference = best.minus(one)
    if difference.mean <= 0:
        return 0.0
    error = difference.standard_error
    return difference.mean / error if error > 0 else float("inf")


def _equals(cheap: Sequence[str]) -> str:
    return "" if len(cheap) == 1 else f" (and best of {', '.join(cheap)}, which cost the same)"

"""The gate's criteria that follow from predictions: is a challenger fit to take over?

The primary criterion must be shown to hold, against the champion and against the anchor: both are
needed, so neither level is shared out. All others block only where the challenger is demonstrably
worse by more than the margin, at a level shared out over their number (Bonferroni); floors and cost
are what they are, without intervals. Without champion and anchor, floors alone are asked for.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keyslice.config import Promote
from keyslice.config.promote import FEWEST_TAIL_DRAWS
from keyslice.evaluation.calibration import calibration
from keyslice.evaluation.criterion import Criterion, Outcome, Verdict, decided
from keyslice.evaluation.intervals import Array
from keyslice.evaluation.noninferiority import Comparison, compare
from keyslice.evaluation.subgroups import Exams, Subgroup, subgroups, words_of
from keyslice.metrics import METRICS, once

WIDEST = 0.5
"""A margin this wide asks for nothing, so it is not offered."""
OUTCOMES: dict[str, Verdict] = {
    "not inferior": "holds",
    "worse": "fails",
    "cannot tell": "cannot tell",
}


@dataclass(frozen=True)
class Contender:
    """What a model does on the N test exams."""

    probabilities: Array
    """(N,C)"""
    macs: float
    """Multiply-accumulates per exam, the mean."""


def assess(
    plan: Promote,
    exams: Exams,
    challenger: Contender,
    champion: Contender | None,
    anchor: Contender | None,
    *,
    look: int,
) -> Outcome:
    """All criteria that follow from predictions.

    Args:
        plan: criteria and margins.
        exams: today's test exams, in an order of their own (by id): the draws depend on it.
        challenger: the model that was trained.
        champion: the model in use; None for the first one.
        anchor: the last model that a person approved; None where that is the champion.
        look: which model it is, from 1, that is held against others on this test version.
    """
    rivals = {"champion": champion, "anchor": anchor}
    primary = [
        (name, _compared(plan, exams, plan.primary, challenger, rival))
        for name, rival in rivals.items()
        if rival is not None
    ]
    criteria = [_primary(plan, name, found, look) for name, found in primary]
    if champion is not None:
        criteria += _others(plan, exams, challenger, champion)
        criteria.append(_cost(plan, challenger, champion))
    criteria += _floors(plan, exams, challenger)
    found = [comparison for _, comparison in primary if comparison is not None]
    return Outcome(
        criteria=tuple(criteria),
        alpha=plan.look_alpha if primary else None,
        power=min((one.power for one in found), default=None),
        warnings=tuple(_warnings(plan, found, look)) if primary else (),
    )


def _compared(
    plan: Promote, exams: Exams, metric: str, challenger: Contender, rival: Contender
) -> Comparison | None:
    """In the primary metric at this look's level; None where the metric is not defined."""
    if not np.isfinite(_figure(metric, exams, challenger)):
        return None
    return compare(
        METRICS[metric],
        exams.labels,
        exams.units,
        challenger.probabilities,
        rival.probabilities,
        margin=plan.margin,
        alpha=plan.look_alpha,
        resamples=plan.resamples,
        seed=plan.seed,
    )


def _primary(plan: Promote, rival: str, found: Comparison | None, look: int) -> Criterion:
    name = f"{words_of(plan.primary)} against the {rival}"
    if found is None:
        words = f"The test exams lack the classes that {words_of(plan.primary)} needs."
        return Criterion(name, "primary", "cannot tell", True, words, margin=plan.margin)
    if look > plan.looks:
        words = f"Look {look} of {plan.looks} planned ones: the test exams are worn out."
        return _criterion(name, "primary", found, "cannot tell", True, words)
    outcome = OUTCOMES[found.verdict]
    return _criterion(name, "primary", found, outcome, outcome != "holds", _sentence(found, rival))


def _others(
    plan: Promote, exams: Exams, challenger: Contender, champion: Contender
) -> Iterator[Criterion]:
    """The second metric, subgroups and calibration, their level shared out over those tested."""
    second = "balanced_accuracy" if plan.primary == "auc" else "auc"
    name = f"{words_of(second)} against the champion"
    parts = [
        Subgroup(
            name=name,
            group="second metric",
            metric_name=second,
            metric=METRICS[second],
            margin=plan.secondary_margin,
            where=np.full(len(exams.labels), bool(np.isfinite(_figure(second, exams, challenger)))),
            words="",
        ),
        *subgroups(plan, exams),
    ]
    tests = sum(bool(part.where.any()) for part in parts) + 1
    alpha = plan.alpha / tests
    for part in parts:
        yield _in_part(plan, exams, part, challenger, champion, alpha)
    yield calibration(plan, exams, challenger.probabilities, champion.probabilities, alpha)


def _in_part(
    plan: Promote,
    exams: Exams,
    part: Subgroup,
    challenger: Contender,
    champion: Contender,
    alpha: float,
) -> Criterion:
    if not part.where.any():
        words = f"Too few cases: {part.words}." if part.words else "Not defined on these exams."
        return Criterion(part.name, part.group, "cannot tell", False, words, margin=part.margin)
    found = compare(
        part.metric,
        exams.labels[part.where],
        exams.units[part.where],
        challenger.probabilities[part.where],
        champion.probabilities[part.where],
        margin=part.margin,
        alpha=alpha,
        resamples=_draws(plan, alpha),
        seed=plan.seed,
    )
    outcome = OUTCOMES[found.verdict]
    words = _sentence(found, "champion") + (f" Left out: {part.words}." if part.words else "")
    return _criterion(part.name, part.group, found, outcome, outcome == "fails", words)


def _cost(plan: Promote, challenger: Contender, champion: Contender) -> Criterion:
    ratio = challenger.macs / champion.macs
    holds = ratio <= plan.cost_ratio
    return Criterion(
        name="cost per exam against the champion",
        group="cost",
        outcome="holds" if holds else "fails",
        blocks=not holds,
        words=f"It is {ratio:.2f} times the champion's; {plan.cost_ratio:g} times is allowed.",
        estimate=challenger.macs,
        reference=champion.macs,
        difference=ratio,
        margin=plan.cost_ratio,
    )


def _floors(plan: Promote, exams: Exams, challenger: Contender) -> Iterator[Criterion]:
    floors = {"auc": plan.auc_floor, "balanced_accuracy": plan.balanced_accuracy_floor}
    for metric, floor in floors.items():
        if floor is None:
            continue
        figure, name = _figure(metric, exams, challenger), f"floor of {words_of(metric)}"
        if not np.isfinite(figure):
            yield decided(name, "floor", None, "Not defined on these exams.", margin=floor)
            continue
        side = "above" if figure >= floor else "below"
        words = f"{figure:.3f} is {side} the floor of {floor:g}."
        yield decided(name, "floor", figure >= floor, words, estimate=figure, margin=floor)


def _warnings(plan: Promote, found: list[Comparison], look: int) -> Iterator[str]:
    if look > plan.looks:
        yield (
            f"Look {look} of {plan.looks} planned ones at this version of the test exams: they are"
            " worn out, and nothing more passes on them; ingest new exams, or have the model"
            " approved by override."
        )
    weakest = min(found, key=lambda one: one.power, default=None)
    if weakest is not None and weakest.power < plan.power:
        margin = math.ceil(weakest.margin_for(plan.power) * 1000) / 1000
        enough = f"with a margin of {margin:.3f}, or " if margin < WIDEST else ""
        yield (
            "Low power: at today's size of the test set an equally good model passes the primary"
            f" criterion with a probability of {weakest.power:.0%}; it would be {plan.power:.0%}"
            f" {enough}with more test patients."
        )


def _criterion(
    name: str, group: str, found: Comparison, outcome: Verdict, blocks: bool, words: str
) -> Criterion:
    return Criterion(
        name=name,
        group=group,
        outcome=outcome,
        blocks=blocks,
        words=words,
        estimate=found.challenger,
        reference=found.reference,
        difference=found.difference,
        low=found.low,
        high=found.high,
        margin=found.margin,
    )


def _sentence(found: Comparison, rival: str) -> str:
    margin = f"{found.margin:g}"
    return {
        "not inferior": f"The challenger is worse than the {rival} by less than {margin}, if at"
        " all.",
        "worse": f"The challenger is worse than the {rival} by more than {margin}.",
        "cannot tell": f"Whether the challenger is worse than the {rival} by {margin} cannot be"
        " told from these exams.",
    }[found.verdict]


def _figure(metric: str, exams: Exams, one: Contender) -> float:
    return float(METRICS[metric](exams.labels, one.probabilities, once(len(exams.labels)))[0])


def _draws(plan: Promote, alpha: float) -> int:
    return max(plan.resamples, round(FEWEST_TAIL_DRAWS / alpha))

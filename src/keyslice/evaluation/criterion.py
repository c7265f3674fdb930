"""One criterion of the gate, and what all of them come to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from keyslice.evaluation.presentation import NONE, pipes, signed

Verdict = Literal["holds", "fails", "cannot tell"]
HEADINGS = ("criterion", "challenger", "reference", "difference", "margin")


@dataclass(frozen=True)
class Criterion:
    """What was asked, what was found, and whether it stands in the way. None: has no such number.

    Differences are the challenger's figure less the reference's, whichever way is better; for cost
    the ratio of the two.
    """

    name: str
    group: str
    """primary, second metric, site, modality, class, calibration, cost, floor; others come from
    elsewhere."""
    outcome: Verdict
    blocks: bool
    """The challenger does not pass with this outcome."""
    words: str
    """A sentence."""
    estimate: float | None = None
    """The challenger's figure."""
    reference: float | None = None
    difference: float | None = None
    low: float | None = None
    """One-sided bounds of the difference."""
    high: float | None = None
    margin: float | None = None
    """The difference that is borne, of cost the ratio, of a floor the floor."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Under `HEADINGS`."""
        return (
            self.name,
            _number(self.estimate),
            _number(self.reference),
            self._difference,
            _number(self.margin),
        )

    @property
    def _difference(self) -> str:
        if self.difference is None:
            return NONE
        if self.group == "cost":
            return f"× {self.difference:.2f}"
        if self.low is None or self.high is None:
            return signed(self.difference)
        return f"{signed(self.difference)} ({signed(self.low)} to {signed(self.high)})"

    def as_dict(self) -> dict[str, Any]:
        """As JSON: every field, and `cells`; a number that is not finite is null."""
        values = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        return values | {"cells": list(self.cells)}


def decided(
    name: str,
    group: str,
    holds: bool | None,
    words: str,
    *,
    needed: bool = True,
    estimate: float | None = None,
    margin: float | None = None,
) -> Criterion:
    """A criterion that was decided elsewhere: a check, drift, the plan.

    Args:
        name: of the criterion.
        group: what it belongs to.
        holds: None, where it cannot be told.
        words: a sentence that says why.
        needed: it blocks unless it holds; else only where it fails.
        estimate: the figure that decided, where there is one.
        margin: the greatest that this may be.
    """
    outcome: Verdict = "cannot tell" if holds is None else "holds" if holds else "fails"
    blocks = not holds if needed else holds is False
    return Criterion(name, group, outcome, blocks, words, estimate=estimate, margin=margin)


@dataclass(frozen=True)
class Outcome:
    """What the gate found."""

    criteria: tuple[Criterion, ...]
    alpha: float | None = None
    """One-sided level of the primary criterion at this look; None without a champion."""
    power: float | None = None
    """Probability that an equally good challenger passes the primary criterion; the lowest of those
    against champion and anchor. None without either."""
    warnings: tuple[str, ...] = ()
    """Sentences."""

    @property
    def passed(self) -> bool:
        """Nothing blocks."""
        return not any(one.blocks for one in self.criteria)

    def joined_by(self, others: Sequence[Criterion]) -> "Outcome":
        """With criteria that were decided elsewhere."""
        return Outcome((*self.criteria, *others), self.alpha, self.power, self.warnings)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "passed": self.passed,
            "alpha": self.alpha,
            "power": self.power,
            "warnings": list(self.warnings),
            "criteria": [one.as_dict() for one in self.criteria],
        }


def markdown(gate: Mapping[str, Any]) -> str:
    """Passed or not, the criteria as a pipe table, the warnings, and each one's sentence.

    Args:
        gate: as JSON: `outcome` (passed or failed), and what `Outcome.as_dict` has.
    """
    rows = [
        (*one["cells"], one["outcome"] + " (blocks)" * one["blocks"]) for one in gate["criteria"]
    ]
    table = pipes(pd.DataFrame(rows, columns=[*HEADINGS, "outcome"]))
    parts = [f"**{gate['outcome']}**", table.rstrip("\n")]
    parts += [f"> {warning}" for warning in gate["warnings"]]
    parts.append("\n".join(f"- {one['name']}: {one['words']}" for one in gate["criteria"]))
    return "\n\n".join(parts) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1e6:.1f} M" if abs(value) >= 1e5 else f"{value:.3f}"

"""Drift in words and cells: the page, and the table that MLflow and the terminal show."""

import pandas as pd

from keyslice.evaluation.presentation import NONE, decimals, pipes, signed
from keyslice.exams.drift import FEWEST, LEVEL, Drift, Shift

METHOD = (
    f"Called shifted: Holm-corrected p below {LEVEL} and an effect that is not negligible. Where "
    f"nothing has shifted, the chance that anything here is called so is at most {LEVEL:.0%}. Each "
    "patient counts once in the reference and once among the new; p-values are from permutations "
    "of patients, and exams of unknown patients count as a patient each. Effect: Cliff's delta of "
    "numbers (above 0: new values are greater), Cramér's V of categories; distance: "
    "Kolmogorov–Smirnov. "
    f"With fewer than {FEWEST} patients on a side nothing is told."
)


def table(drift: Drift) -> pd.DataFrame:
    """A row per quantity, shifted ones first, then by effect; in each its figures as text."""
    return pd.DataFrame(
        [
            {
                "quantity": shift.name,
                "shifted": "yes" if shift.shifted else "",
                "reference": shift.before,
                "new": shift.now,
                "effect": _effect(shift),
                "distance": decimals(_nan(shift.distance)),
                "magnitude": shift.magnitude or "",
                "p": probability(shift.p),
                "p corrected": probability(shift.corrected),
                "in words": shift.sentence,
            }
            for shift in ordered(drift)
        ]
    )


def tested(drift: Drift) -> pd.DataFrame:
    """The rows of `table` that were tested."""
    rows = table(drift)
    return rows[(rows["p"] != NONE).to_numpy()]


def untested(drift: Drift) -> str:
    """A sentence for each reason, with the quantities that were not tested for it."""
    names: dict[str, list[str]] = {}
    for shift in drift.shifts:
        if shift.p is None:
            names.setdefault(shift.sentence, []).append(shift.name)
    return " ".join(f"{_capital(why)}: {', '.join(those)}." for why, those in names.items())


def ordered(drift: Drift) -> list[Shift]:
    """Shifted quantities first; greater effects before smaller ones."""
    return sorted(drift.shifts, key=lambda one: (not one.shifted, -abs(one.effect or 0), one.name))


def markdown(drift: Drift, dataset: str, version: str, reference: str) -> str:
    """The page.

    Args:
        drift: what was found.
        dataset: its name.
        version: of the dataset, that has the new exams.
        reference: what they are compared with, in words.
    """
    counts = (
        f"{drift.new_exams} new exams of {drift.new_patients} patients in version {version[:12]}, "
        f"against {drift.reference_exams} exams of {drift.reference_patients} patients of "
        f"{reference}."
    )
    found = f"# Drift of {dataset}\n\n{counts}\n\n**{sentence(drift)}**\n"
    if not drift.shifts:
        return found
    parts = (found, pipes(tested(drift), ":--"), untested(drift), METHOD)
    return "\n".join(f"{part.rstrip()}\n" for part in parts if part)


def sentence(drift: Drift) -> str:
    """What was found, as a sentence."""
    return f"{_capital(drift.sentence)}."


def probability(value: float | None) -> str:
    """0.032; below 0.001 it says so."""
    return "< 0.001" if value is not None and value < 0.001 else decimals(_nan(value))


def _effect(shift: Shift) -> str:
    value = _nan(shift.effect)
    return signed(value) if shift.kind == "numeric" else decimals(value)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"

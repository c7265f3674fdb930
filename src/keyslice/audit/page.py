"""The audit as one page that needs nothing else, for screen, phone and paper."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from markupsafe import Markup

from keyslice.audit import standards
from keyslice.evaluation import pages
from keyslice.evaluation.presentation import NONE, decimals
from keyslice.provenance.differences import counted, value

_PARTS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "identity",
        "Identity and intended use",
        (
            ("intended-use", "Intended use"),
            ("code", "Code, package and hashes"),
            ("environment", "Environment"),
        ),
    ),
    (
        "data",
        "Data",
        (
            ("flow", "Flow of exams"),
            ("counts", "Exams and patients"),
            ("origin", "Origin and acquisition"),
            ("privacy", "How patients are protected"),
            ("versions", "Versions of the data"),
            ("withdrawals", "Withdrawals"),
        ),
    ),
    ("training", "Training", (("settings", "Settings and seeds"), ("curves", "Curves"))),
    (
        "evaluation",
        "Evaluation",
        (
            ("figures", "Figures"),
            ("subgroups", "Subgroups and classes"),
            ("calibration", "Calibration"),
            ("confusion", "Confusion matrix"),
            ("thresholds", "Operating thresholds"),
        ),
    ),
    ("gate", "Gate", (("plan", "Change plan"), ("criteria", "Criteria"))),
    (
        "decision",
        "Decisions and champions",
        (("decisions", "Approvals and rejections"), ("champions", "Champions")),
    ),
    ("drift", "Drift", ()),
    (
        "checks",
        "Verification and reproduction",
        (("verification", "Verification"), ("reproductions", "Reproductions")),
    ),
    ("ledger", "Events in the ledger", ()),
    ("limits", "What this page cannot show", ()),
    (
        "standards",
        "Index to standards",
        tuple((one["name"], one["title"]) for one in standards.listed()),
    ),
)
"""Anchor and title of each part, and of what it holds."""


def numbers() -> dict[str, str]:
    """By anchor the number that the page gives it, so that links mean something on paper."""
    found = {}
    for part, (anchor, _, inner) in enumerate(_PARTS, 1):
        found[anchor] = str(part)
        found |= {name: f"{part}.{place}" for place, (name, _) in enumerate(inner, 1)}
    return found


def render(content: Mapping[str, Any], figures: Mapping[str, Markup]) -> str:
    """The page of `keyslice.audit.content.content`, with `keyslice.audit.figures.figures`."""
    environment = pages.environment("keyslice.audit")
    environment.filters |= {
        "when": _when,
        "number": _number,
        "setting": value,
        "percent": _percent,
        "counted": counted,
    }
    environment.globals |= {
        "parts": _PARTS,
        "numbers": numbers(),
        "titles": {a: t for anchor, title, inner in _PARTS for a, t in ((anchor, title), *inner)},
    }
    return environment.get_template("audit.html.j2").render(figures=figures, **content)


def _when(text: str | None) -> str:
    """`2026-05-01 09:30 UTC`."""
    if text is None:
        return NONE
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _number(one: float | None, places: int = 3) -> str:
    return NONE if one is None else decimals(one, places)


def _percent(one: float | None) -> str:
    return NONE if one is None else f"{one:.0%}"

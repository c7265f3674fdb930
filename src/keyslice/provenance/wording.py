"""Numbers and values in words."""

from collections.abc import Mapping
from typing import Any

from keyslice.config import TestTime
from keyslice.provenance.membership import Size


def counted(number: int, what: str) -> str:
    """`1 exam`, `2,000 exams`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def sized(some: Size) -> str:
    """`9 exams of 4 patients`; where no patient is known, `9 exams`."""
    of = f" of {counted(some.patients, 'patient')}" if some.patients else ""
    return counted(some.exams, "exam") + of


def looks(settings: Mapping[str, Any]) -> str:
    """How often a model looks at an exam, by its settings; before there was a choice, once."""
    return TestTime.model_validate(settings.get("evaluate", {}).get("test_time", {})).words


def value(one: Any) -> str:
    """A setting or a figure, in a few characters."""
    if isinstance(one, float):
        return f"{one:.4g}"
    if isinstance(one, list | tuple):
        return "[" + ", ".join(map(value, one)) + "]"
    if one is None or isinstance(one, bool):
        return {None: "none", True: "yes", False: "no"}[one]
    return str(one)

"""What a check of a dataset has found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One fact about a dataset that a person should know.

    Args:
        level: `wrong`, or `note` for what may well be intended.
        check: its name, for scripts.
        what: in words; the exams it is said of follow it.
        remedy: the way out, or what to look at.
        exams: ids of all exams it is said of; none where it is said of the dataset.
        others: for each of `exams` the one it was held against; none where it is held against none.
    """

    level: Literal["wrong", "note"]
    check: str
    what: str
    remedy: str = ""
    exams: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def of_exams(
    level: Literal["wrong", "note"], check: str, what: str, remedy: str, exams: Iterable[str]
) -> list[Finding]:
    """A finding of these exams; none where there are none."""
    found = tuple(exams)
    return [Finding(level, check, what, remedy, found)] if found else []

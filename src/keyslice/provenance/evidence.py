"""What one look at the bytes behind a model's version found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["sound", "altered", "missing", "unseen"]
"""As the ledger says; not as it says; not there; could not be looked at, for a reason that is no
fault."""


@dataclass(frozen=True)
class Item:
    """One claim of the provenance, and whether the bytes bear it out."""

    part: str
    """ledger, registry, package, code, data, start, results or workspace."""
    what: str
    state: State
    detail: str = ""

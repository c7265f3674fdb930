"""What is kept of a date of acquisition."""

import hashlib
import hmac
from datetime import date, timedelta

FARTHEST = 182
"""Days, either way."""


def kept_date(acquired: str, how: str, key: bytes, patient: str) -> str:
    """The date as the setting says.

    Args:
        acquired: ISO date; empty stays empty.
        how: `full`, `year`, or `shifted`: by as many days for all exams of a patient, so that
            the time between them stays, and only who has the key can undo it.
        key: of the pseudonyms.
        patient: a pseudonym.
    """
    if not acquired or how == "full":
        return acquired
    if how == "year":
        return acquired[:4]
    digest = hmac.new(key, f"shift {patient}".encode(), hashlib.sha256).digest()
    days = int.from_bytes(digest[:8], "big") % (2 * FARTHEST + 1) - FARTHEST
    try:
        return (date.fromisoformat(acquired) + timedelta(days)).isoformat()
    except OverflowError:  # a date that stands for none, such as 0001-01-01
        return ""

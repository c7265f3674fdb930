"""One way to write a value as JSON, so that equal values have equal hashes."""

import hashlib
import json
from typing import Any


def dumps(value: Any) -> str:
    """Keys sorted, no spaces, text as it is, numbers as Python writes them.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON does not know.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256(value: Any) -> str:
    """Hex digits, of the canonical JSON in UTF-8."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()

"""What `keyslice withdraw` is called with where a test says nothing else."""

from typing import Any

OPTIONS: dict[str, Any] = {
    "reason": "consent withdrawn",
    "patient": None,
    "known_as": None,
    "issuer": None,
    "dataset": None,
    "bar_unknown": False,
    "yes": True,
    "dry_run": False,
    "as_json": False,
}

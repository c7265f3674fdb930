"""Randomness that depends on names and counts only, never on what ran before."""

import hashlib
from collections.abc import Iterable

import torch


def derive(*parts: object) -> int:
    """A 63-bit seed from any printable parts, such as (seed, epoch) or (seed, exam_id)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(*parts))


def per_exam(seed: int, exam_ids: Iterable[str]) -> list[torch.Generator]:
    """One generator per exam, so that a prediction does not depend on its batch."""
    return [generator("exam", seed, exam_id) for exam_id in exam_ids]

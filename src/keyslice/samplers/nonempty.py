"""Equidistant frames among those that are not empty: what avoiding empty frames alone gains."""

import torch
from torch import Tensor

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.features import empty
from keyslice.samplers.noise import Generators
from keyslice.samplers.positions import equidistant
from keyslice.samplers.selection import Selection


class NonEmpty(Sampler[SamplerSettings]):
    """Keeps k_i equidistant of the exam's non-empty frames.

    If fewer than k_i are non-empty, all of them are kept, and equidistant empty ones beside them.
    """

    sees = "all"

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        valid, counts, rows = self.extent(frames, lengths)
        last = empty(frames)
        # Non-empty frames first, then empty ones, then padding; in frame order within each.
        order = (last.long() + 2 * ~valid).argsort(dim=1, stable=True)
        ranks = equidistant_ranks(counts, (~last & valid).sum(1), lengths, rows.shape[1])
        return Selection.from_choices(order.gather(1, ranks * rows), rows, lengths, valid)


def equidistant_ranks(counts: Tensor, preferred: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Ranks (B,size) of n_b = `counts[b]` frames, the first `preferred[b]` ranks being preferred.

    Equidistant among the preferred where there are enough, else all of those and equidistant
    others of the `lengths[b]` in all. Places beyond n_b mean nothing.
    """
    place = torch.arange(size, device=counts.device).expand(len(counts), -1)
    among = equidistant(counts, preferred, size)
    missing = (counts - preferred).clamp(min=1)
    others = preferred[:, None] + (
        (2 * (place - preferred[:, None]) + 1) * (lengths - preferred)[:, None]
    ) // (2 * missing[:, None])
    scarce = (preferred < counts)[:, None]
    return torch.where(scarce, torch.where(place < preferred[:, None], place, others), among)

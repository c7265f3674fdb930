"""Temporal aggregation: learned attention over the kept frames (Ilse et al., ICML 2018)."""

import torch
from torch import Tensor, nn


class TemporalAttention(nn.Module):
    """Mean of the frames' features, weighted by wᵀ tanh(V f), over the frames that exist.

    Args:
        width: D, the backbone's feature width.
        hidden: rows of V.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # No bias at the end: softmax would cancel it.
        self.score = nn.Sequential(
            nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False)
        )

    def forward(
        self, features: Tensor, mask: Tensor, gate: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B,k,D) and mask (B,k) to the aggregate (B,D) and its weights (B,k).

        `gate` (B,k), where there is one, is added to the scores: it is zero in value, and lets
        their gradient through to the sampler.
        """
        scores = self.score(features).squeeze(-1)
        if gate is not None:
            scores = scores + gate
        scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(1)
        return torch.einsum("bk,bkd->bd", weights, features), weights

    def prefixes(self, features: Tensor, mask: Tensor) -> Tensor:
        """The aggregates (B,k,D) of the first 1 … k frames; a masked frame adds nothing."""
        scores = self.score(features).squeeze(-1).masked_fill(~mask, -torch.inf)
        k = scores.shape[1]
        later = torch.ones(k, k, dtype=torch.bool, device=scores.device).triu(1)
        # Row j is the softmax over the first j frames. A product, since running sums of floats are
        # not repeatable on a GPU.
        return scores[:, None].masked_fill(later, -torch.inf).softmax(-1) @ features

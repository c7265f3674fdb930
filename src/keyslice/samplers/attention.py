"""The parts that the attention-guided samplers share: heads, temperature, how alike heads are."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu_

from keyslice.samplers.positions import centred


class Heads(nn.Module):
    """H two-layer perceptrons on the same input, (..., d) to (..., H).

    Args:
        width: d.
        heads: H.
        hidden: width of each perceptron's first layer.
        bias: of the outputs. Scores of frames have none: added to all of them it moves no choice.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, heads * hidden)
        bound = 1 / math.sqrt(hidden)  # as nn.Linear begins
        self.weight = nn.Parameter(torch.empty(heads, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads).uniform_(-bound, bound)) if bias else None
        self.register_buffer("own", torch.eye(heads)[:, None], persistent=False)
        self.own: Tensor

    def forward(self, x: Tensor) -> Tensor:
        # One product with a block for each head, faster than a batch of such small products.
        blocks = (self.weight[..., None] * self.own).flatten(0, 1)
        found = relu_(self.hidden(x)) @ blocks
        return found if self.bias is None else found + self.bias


class Temperature(nn.Module):
    """τ = τ0 · (0.5 + σ(MLP(F))) for each exam, from its pooled features: eq. (4) of the paper.

    Scales the relaxation only: it moves no choice, since argmax((A + G) / τ) = argmax(A + G).
    Without adaptation τ = τ0.
    """

    def __init__(self, width: int, hidden: int, base: float, *, adaptive: bool) -> None:
        super().__init__()
        self.base = base
        self.network = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            if adaptive
            else None
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """(B,1,d) to (B,), from 0.5 to 1.5 times the base."""
        if self.network is None:
            return pooled.new_full((len(pooled),), self.base)
        return self.base * (0.5 + self.network(pooled).flatten().sigmoid())


def row_features(summary: Tensor, counts: Tensor, k: int) -> Tensor:
    """(B,k,d+1): the exam's pooled features (B,1,d) and the row's relative place, from -1 to 1.

    The paper's MLP_h gives all k scales at once, which ties it to one k. With the row's place as an
    input it gives one scale, and any number of rows fits.
    """
    place = centred(counts, k)
    return torch.cat((summary.expand(-1, k, -1), place[..., None]), dim=-1)


def diagnostics(
    temperature: Tensor, scores: Tensor, scales: Tensor, valid: Tensor, rows: Tensor
) -> dict[str, Tensor]:
    """What the monitors watch, detached, one figure for each exam.

    Args:
        temperature: τ (B,).
        scores: (B,H,T), what each head gives each frame.
        scales: (B,H,k), what each row gives each head.
        valid: (B,T) bool.
        rows: (B,k) bool.
    """
    figures = {"temperature": temperature.detach()}
    if scores.shape[1] > 1:
        figures["head_similarity"] = head_similarity(
            scores.detach(), scales.detach(), valid[:, None], rows[:, None]
        )
    return figures


def head_similarity(scores: Tensor, scales: Tensor, valid: Tensor, rows: Tensor) -> Tensor:
    """Mean cosine between the heads' attention matrices A_h[j,t] = scales[h,j] · scores[h,t], (B,).

    The cosine between two such products is the product of the factors' cosines. Scores are centred
    over the exam's frames first, since a softmax does not see what is added to all of them.

    Args:
        scores: (B,H,T), H at least 2.
        scales: (B,H,k).
        valid: (B,1,T) bool, the frames that count.
        rows: (B,1,k) bool, the rows that count.
    """
    mean = (scores * valid).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True)
    cosines = _cosines((scores - mean) * valid) * _cosines(scales * rows)
    H = scores.shape[1]
    pairs = torch.ones(H, H, dtype=torch.bool, device=scores.device).triu(1)
    return cosines[:, pairs].mean(1)


def _cosines(x: Tensor) -> Tensor:
    """(B,H,n) to the cosine of every pair, (B,H,H)."""
    unit = nn.functional.normalize(x, dim=-1)
    return unit @ unit.transpose(1, 2)

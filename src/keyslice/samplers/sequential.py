"""Row by row Gumbel top-1 with earlier choices masked: k distinct frames, and its relaxation.

Row j of the scores S (B,k,T) (logits, with noise added where noise is on) chooses the best frame
that is still open: valid, and chosen by no earlier row. With Gumbel noise that is a draw from
softmax(S_j) over the open frames, so equal rows give the Plackett-Luce law. The relaxation of row j
is softmax(S_j / τ) over the same open frames.
"""

import torch
from torch import Tensor


def choose(scores: Tensor, valid: Tensor) -> Tensor:
    """The choice (B,k) int64 of every row in turn, for `scores` (B,k,T) and `valid` (B,T) bool.

    An exam with fewer than k valid frames repeats itself in the rows beyond them.
    """
    closed = closing(valid)
    return torch.cat([choose_one(row, closed) for row in scores.detach().unbind(1)], dim=1)


def closing(valid: Tensor) -> Tensor:
    """The penalty (B,T) to start from: 0 for a frame that is open, -inf for one that is not."""
    return torch.where(valid, 0.0, -torch.inf)


def choose_one(scores: Tensor, closed: Tensor) -> Tensor:
    """The best open frame (B,1) for `scores` (B,T), which is closed in `closed` (B,T), in place."""
    choice = (scores + closed).argmax(1, keepdim=True)
    closed.scatter_(1, choice, -torch.inf)
    return choice


def open_frames(chosen: Tensor, valid: Tensor) -> Tensor:
    """(B,k,T) bool, the valid frames that no row before row j has chosen."""
    taken = torch.zeros(*chosen.shape, valid.shape[1], dtype=torch.int32, device=chosen.device)
    taken.scatter_(2, chosen[..., None], 1)
    return valid[:, None] & (taken.cumsum(1) - taken == 0)


def relax(scores: Tensor, is_open: Tensor, rows: Tensor, temperature: Tensor | float) -> Tensor:
    """softmax_t(scores / τ) over the open frames, (B,k,T); zero in the rows an exam has not.

    Args:
        scores: (B,k,T), noise included.
        is_open: bool, broadcastable to (B,k,T); at least one frame is open in each row of `rows`.
        rows: (B,k) bool, the rows that an exam has.
        temperature: τ, a number or (B,).
    """
    if isinstance(temperature, Tensor):
        temperature = temperature[:, None, None]
    absent = ~rows[..., None]
    # A row that an exam has not keeps all frames open: a softmax over nothing would be NaN.
    scaled = (scores / temperature).masked_fill(~(is_open | absent), -torch.inf)
    return scaled.softmax(-1).masked_fill(absent, 0)

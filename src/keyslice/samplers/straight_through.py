"""Straight-through selection without the dense product: kept frames forward, dP backward.

Dense, the kept frames are Y = P·N(X) with a one-hot P (B,k,T) and N the normalisation: all T frames
are converted and multiplied, mostly by zero. Here the forward pass gathers the k frames and the
backward pass gives P what the product would have given it,

    dP[b,j,t] = <dY[b,j], N(X)[b,t]>.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 2**22
"""Samples (pixels × channels) of the frames held as floats at a time in the backward pass."""


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std for each channel, of samples x in [0, 1].

    8-bit frames are divided by 255 first; frames in floating point count as scaled already. Frames
    of one channel are expanded to as many channels as there are means.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def affine(self, frames: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (C',), with N(x) = x · scale + shift for samples as stored."""
        mean, std = (
            torch.tensor(values, dtype=dtype, device=frames.device)
            for values in (self.mean, self.std)
        )
        full_scale = 1.0 if frames.is_floating_point() else 255.0
        return 1 / (full_scale * std), -mean / std


Affine = tuple[Tensor, Tensor]


def normalised(frames: Tensor, affine: Affine) -> Tensor:
    """`frames` (N,C,H,W) in floating point to (N,C',H,W), channels last in memory.

    That is what convolutions on a CPU are fast with. `affine` is that of `Normalisation`.
    """
    scale, shift = affine
    return torch.addcmul(shift, frames.movedim(1, -1).contiguous(), scale).movedim(-1, 1)


def take_frames(
    frames: Tensor, indices: Tensor, mask: Tensor, dtype: torch.dtype, affine: Affine | None = None
) -> Tensor:
    """The frames (B,k,C',H,W) at `indices` (B,k), normalised; zeros where `mask` (B,k) is False.

    Only the frames taken are read, of `frames` (B,T,C,H,W).
    """
    B, T = frames.shape[:2]
    start = torch.arange(B, device=frames.device)[:, None] * T
    taken = frames.flatten(0, 1).index_select(0, (indices + start).flatten()).to(dtype)
    if affine is not None:
        taken = normalised(taken, affine)
    taken = taken.unflatten(0, indices.shape)
    taken[~mask] = 0
    return taken


class OneHotRows(torch.autograd.Function):
    """Forward the exact one-hot rows (B,k,T) of `indices`; backward the identity, to `soft`."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, indices: Tensor, mask: Tensor) -> Tensor:
        return one_hot(indices, mask, soft.shape[-1], soft.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


def one_hot(indices: Tensor, mask: Tensor, frames: int, dtype: torch.dtype) -> Tensor:
    """Rows (B,k,T) that are 1 at `indices` (B,k), and all zero where `mask` is False."""
    rows = torch.zeros(*indices.shape, frames, dtype=dtype, device=indices.device)
    return rows.scatter_(-1, indices[..., None], mask[..., None].to(dtype))


class TakeFrames(torch.autograd.Function):
    """`take_frames`, with the gradient that P·N(X) has with respect to P (frames are data)."""

    @staticmethod
    def forward(
        ctx: Any,
        matrix: Tensor,
        frames: Tensor,
        indices: Tensor,
        mask: Tensor,
        valid: Tensor,
        affine: Affine | None,
    ) -> Tensor:
        ctx.save_for_backward(frames, mask, valid)
        ctx.affine = affine
        return take_frames(frames, indices, mask, matrix.dtype, affine)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        frames, mask, valid = ctx.saved_tensors
        d_matrix = matrix_gradient(grads[0], frames, ctx.affine)
        d_matrix = d_matrix.masked_fill(~(mask[:, :, None] & valid[:, None, :]), 0)
        return d_matrix, None, None, None, None, None


def matrix_gradient(d_kept: Tensor, frames: Tensor, affine: Affine | None) -> Tensor:
    """<dY[b,j], N(X)[b,t]> as (B,k,T), for `d_kept` = dY (B,k,C',H,W) and X = `frames` (B,T,C,H,W).

    N is folded into dY, <dY, X·scale + shift> = <dY·scale, X> + <dY, shift>, so that X is used as
    it is stored; it becomes floating point a chunk of frames at a time.
    """
    T = frames.shape[1]
    shift_term: Tensor | float = 0.0
    if affine is not None:
        scale, shift = affine
        shift_term = torch.einsum("bjchw,c->bj", d_kept, shift)[..., None]
        d_kept = d_kept * scale[:, None, None]
    if frames.shape[2] == 1:  # one channel was expanded: its gradient is the sum over the copies
        d_kept = d_kept.sum(2, keepdim=True)
    d_kept = d_kept.flatten(2)
    step = max(1, CHUNK * T // frames.numel())
    products = [
        d_kept @ frames[:, t : t + step].flatten(2).to(d_kept.dtype).transpose(1, 2)
        for t in range(0, T, step)
    ]
    return torch.cat(products, dim=-1) + shift_term

"""Light features of each frame: what the attention-guided samplers look at.

Four statistics of a frame's grey levels (0 to 255), from every n-th pixel each way: mean, variance
(over pixels and channels), and the mean magnitudes of the Sobel gradient and of the Laplacian.
They depend on nothing but the exam itself.
"""

from typing import NamedTuple

import torch
from torch import Tensor

STATISTICS = ("mean", "variance", "sobel", "laplacian")
MEAN, VARIANCE, SOBEL = (STATISTICS.index(name) for name in ("mean", "variance", "sobel"))
ROUNDING = 0.01
"""Grey levels that the mean gradient of a frame without any may come to."""
SMALLEST = 4
"""Pixels that a stride leaves each way at least."""


@torch.no_grad()
def statistics(frames: Tensor, stride: int) -> Tensor:
    """The `STATISTICS` (B,T,4), float32, of `frames` (B,T,C,H,W), padding among them; constants.

    Args:
        frames: uint8, or floating point in [0, 1].
        stride: every n-th pixel is read; less on frames so small that 4 would not be left.

    Raises:
        ValueError: a side is below 3 pixels, so there are no edges to see.
    """
    B, T, _, H, W = frames.shape
    if min(H, W) < 3:
        raise ValueError(f"frames of {H}x{W} pixels: edge features need at least 3x3")
    down, across = (max(1, min(stride, side // SMALLEST)) for side in (H, W))
    # Frames last, (C,h,w,B·T): every operation then runs along many frames, which is much faster.
    x = frames[..., ::down, ::across].flatten(0, 1).permute(1, 2, 3, 0)
    x = x.to(torch.float32, memory_format=torch.contiguous_format)
    if frames.is_floating_point():
        x = x * 255
    mean = x.mean((0, 1, 2))
    variance = (x - mean).square_().mean((0, 1, 2))
    grey = x[0] if len(x) == 1 else x.mean(0)
    return torch.stack((mean, variance, *edges(grey))).mT.unflatten(0, (B, T))


def empty(frames: Tensor) -> Tensor:
    """Which of `frames` (B,T,C,H,W) are empty, all their samples being equal; bool (B,T)."""
    samples = frames.flatten(2)
    return samples.amax(-1) == samples.amin(-1)


def find_empty(frames: Tensor, statistics: Tensor, valid: Tensor) -> Tensor | None:
    """`empty` of `frames` (B,T,C,H,W); None where their `statistics` (B,T,4) rule that out for all.

    An empty frame has no Sobel gradient beyond rounding, and every sample is looked at only where
    a frame of an exam's own, in `valid` (B,T), has none.
    """
    flat = (statistics[..., SOBEL] < ROUNDING) & valid
    return empty(frames) if flat.any() else None


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean magnitudes (N,) of the Sobel gradient and of the Laplacian, for `x` (h,w,N)."""
    middle = x[1:-1]
    # (1,2,1) down and across: what both filters are made of, at h·w operations each
    down = (x[:-2] + x[2:]).add_(middle, alpha=2)
    across = (x[:, :-2] + x[:, 2:]).add_(x[:, 1:-1], alpha=2)
    gx, gy = down[:, 2:] - down[:, :-2], across[2:] - across[:-2]
    sobel = gx.mul_(gx).addcmul_(gy, gy).sqrt_().mean((0, 1))
    cross = across[1:-1].add_(down[:, 1:-1]).sub_(middle[:, 1:-1], alpha=8)
    return sobel, cross.abs_().mean((0, 1))


def log_statistics(values: Tensor) -> Tensor:
    """log(1 + x), brought near [-1, 1]: on this scale a doubling of any statistic counts alike."""
    return values.log1p().div_(4).sub_(1)


class Own(NamedTuple):
    """Which of B padded exams' frames are their own."""

    mask: Tensor
    """(B,T,1), 1 for an exam's own frames and 0 for padding, in floating point."""
    lengths: Tensor
    """(B,1,1), how many frames are its own."""

    @classmethod
    def of(cls, lengths: Tensor, valid: Tensor) -> "Own":
        """From lengths (B,) and what they make, `valid` (B,T) bool."""
        return cls(valid[..., None].to(torch.float32), lengths[:, None, None])


def pooled(values: Tensor, own: Own) -> Tensor:
    """Mean of `values` (B,T,d) over the exam's own frames, (B,1,d)."""
    return (values * own.mask).sum(1, keepdim=True).div_(own.lengths)


def standardised(values: Tensor, mean: Tensor, own: Own) -> Tensor:
    """(values - mean) / standard deviation over the exam's own frames, (B,T,d); 0 in padding.

    `mean` (B,1,d) is that of `pooled`. A value that is the same in all frames becomes 0.
    """
    centred = (values - mean).mul_(own.mask)
    deviation = centred.square().sum(1, keepdim=True).div_(own.lengths).sqrt_()
    return centred.div_(deviation.add_(1e-5))


def change(values: Tensor) -> Tensor:
    """`values` (B,T,d) less the mean of those of the frames before and after; 0 for one missing."""
    found = values.clone()
    found[:, 1:].sub_(values[:, :-1], alpha=0.5)
    found[:, :-1].sub_(values[:, 1:], alpha=0.5)
    return found

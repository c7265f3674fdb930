"""Light features of each frame: what the attention-guided samplers look at.

Four statistics of a frame's grey levels (0 to 255), from every n-th pixel each way: mean, variance
(over pixels and channels), and the mean magnitudes of the Sobel gradient and of the Laplacian.
They depend on nothing but the exam itself.
"""

import torch
from torch import Tensor

STATISTICS = ("mean", "variance", "sobel", "laplacian")
MEAN, VARIANCE = STATISTICS.index("mean"), STATISTICS.index("variance")
SMALLEST = 4
"""Pixels that a stride leaves each way at least."""


def statistics(frames: Tensor, valid: Tensor, stride: int) -> Tensor:
    """The `STATISTICS` (B,T,4), float32, of `frames` (B,T,C,H,W); 0 where `valid` (B,T) is False.

    Args:
        frames: uint8, or floating point in [0, 1].
        valid: the frames that are not padding.
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
    values = torch.stack((mean, variance, *edges(grey)), dim=-1).unflatten(0, (B, T))
    return values * valid[..., None]


def empty(frames: Tensor) -> Tensor:
    """Which of `frames` (B,T,C,H,W) are empty, all their samples being equal; bool (B,T)."""
    samples = frames.flatten(2)
    return samples.amax(-1) == samples.amin(-1)


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean magnitudes (N,) of the Sobel gradient and of the Laplacian, for `x` (h,w,N)."""
    across, down = x[:, 2:] - x[:, :-2], x[2:] - x[:-2]
    gx = (across[:-2] + across[2:]).add_(across[1:-1], alpha=2)
    gy = (down[:, :-2] + down[:, 2:]).add_(down[:, 1:-1], alpha=2)
    sobel = gx.square_().addcmul_(gy, gy).sqrt_().mean((0, 1))
    cross = (x[:-2, 1:-1] + x[2:, 1:-1]).add_(x[1:-1, :-2]).add_(x[1:-1, 2:])
    laplacian = cross.sub_(x[1:-1, 1:-1], alpha=4).abs_().mean((0, 1))
    return sobel, laplacian


def log_statistics(values: Tensor) -> Tensor:
    """log(1 + x), brought near [-1, 1]: on this scale a doubling of any statistic counts alike."""
    return values.log1p().div_(4).sub_(1)


def standardised(values: Tensor, mean: Tensor, valid: Tensor) -> Tensor:
    """(values - mean) / standard deviation over the exam's own frames, (B,T,d); 0 where not valid.

    `mean` (B,d) is that of `pooled`. A value that is the same in all frames becomes 0.
    """
    mask = valid[..., None]
    centred = (values - mean[:, None]).mul_(mask)
    deviation = centred.square().sum(1, keepdim=True).div_(mask.sum(1, keepdim=True)).sqrt_()
    return centred.div_(deviation.add_(1e-5))


def pooled(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the exam's own frames, (B,d)."""
    mask = valid[..., None]
    return (values * mask).sum(1).div_(mask.sum(1))


def change(values: Tensor) -> Tensor:
    """`values` (B,T,d) less the mean of those of the frames before and after; 0 for one missing."""
    found = values.clone()
    found[:, 1:].sub_(values[:, :-1], alpha=0.5)
    found[:, :-1].sub_(values[:, 1:], alpha=0.5)
    return found

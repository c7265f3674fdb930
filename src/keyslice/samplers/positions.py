"""Positions relative to an exam's length, so that what is learned fits exams of any length."""

import torch
from torch import Tensor


def relative(counts: Tensor, size: int) -> Tensor:
    """Centres (i + 1/2) / n_b of n_b = `counts[b]` equal bins, (B,size); beyond n_b above 1."""
    return (torch.arange(size, device=counts.device) + 0.5) / counts[:, None]


def centred(counts: Tensor, size: int) -> Tensor:
    """2 · `relative` - 1, (B,size): from -1 to 1 over each exam's own bins."""
    return torch.arange(1, 2 * size, 2, device=counts.device) / counts[:, None] - 1


def interpolation(counts: Tensor, size: int, bins: int) -> Tensor:
    """Weights (B,size,bins) that interpolate `bins` learned values linearly to n_b places.

    Bin centre p lies at (p + 1/2) / bins of the length, place i at (i + 1/2) / n_b; places before
    the first and after the last centre take its value. Rows add up to 1.
    """
    place = (relative(counts, size) * bins - 0.5).clamp(0, bins - 1)
    centres = torch.arange(bins, device=counts.device)
    return (1 - (place[..., None] - centres).abs()).clamp(min=0)


def equidistant(counts: Tensor, among: Tensor, size: int) -> Tensor:
    """Place numbers (B,size) int64 of n_b = `counts[b]` equidistant places among m_b = `among[b]`.

    The middle of each of n_b equal bins, floor((i + 1/2) m_b / n_b): distinct where n_b <= m_b.
    """
    i = torch.arange(size, device=counts.device)
    return ((2 * i + 1) * among[:, None]) // (2 * counts[:, None])

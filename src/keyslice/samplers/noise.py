"""Gumbel noise from generators that the caller owns; the global random state is left alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for the batch, or one for each exam: then an exam's noise depends on nothing but
its own generator and its own shape, and a prediction can be repeated whatever the batch."""


def gumbel(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Gumbel(0,1) samples, float32, on the generator's device.

    G = -log E with E ~ Exp(1): an exponential sample is never 0, so there is nothing to clamp.
    """
    return -torch.empty(*shape, device=generator.device).exponential_(generator=generator).log()


def exam_noise(
    sizes: Tensor,
    shape: Sequence[int],
    generator: Generators | None,
    device: torch.device,
) -> Tensor:
    """Gumbel noise (B, *shape) of which exam i uses the corner of size `sizes[i]`.

    Args:
        sizes: (B,n) int64, the exam's own extent along each of the n axes of `shape`.
        shape: extent in the padded batch, at least that of every exam.
        generator: one for the batch or one for each exam.
        device: where the noise is wanted.

    Raises:
        ValueError: no generator, or as many generators as there are not exams.
    """
    if generator is None:
        raise ValueError("this sampler draws noise: pass generator=, one or one for each exam")
    if isinstance(generator, torch.Generator):
        return gumbel((len(sizes), *shape), generator).to(device)
    if len(generator) != len(sizes):
        raise ValueError(f"{len(generator)} generators for {len(sizes)} exams: pass one for each")
    noise = torch.zeros(len(sizes), *shape)
    for exam, (own, size) in enumerate(zip(generator, sizes.tolist(), strict=True)):
        noise[exam][tuple(slice(n) for n in size)] = gumbel(size, own).cpu()
    return noise.to(device)

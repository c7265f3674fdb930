"""What every sampler is: frames and lengths in, a Selection out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.noise import Generators, exam_noise
from keyslice.samplers.selection import Selection

Encode = Callable[[Tensor], Tensor]
"""Frames (N,C,H,W) as they are stored to encodings (N,D), normalisation included."""


S = TypeVar("S", bound=SamplerSettings)


class Extent(NamedTuple):
    """How far each exam of a batch reaches, in frames and in rows of its selection."""

    valid: Tensor
    """(B,T) bool, the exam's own frames."""
    counts: Tensor
    """(B,) int64, k_i: how many of them it keeps."""
    rows: Tensor
    """(B,k) bool, the rows that it has, k being the largest k_i."""

    def noise(self, generator: Generators | None) -> Tensor:
        """Gumbel noise (B,k,T) for the rows' scores; raises what `exam_noise` does."""
        sizes = torch.stack((self.counts, self.valid.sum(1)), dim=1)
        shape = self.rows.shape[1], self.valid.shape[1]
        return exam_noise(sizes, shape, generator, self.valid.device)


class Sampler(nn.Module, ABC, Generic[S]):
    """Keeps k_i = ceil(keep · length_i) frames of each exam, never a padded one.

    Noise is drawn while training; at inference the choice is deterministic, unless the sampler says
    `stochastic_at_inference`. The relaxation and the diagnostics are made only where gradients are
    recorded, so inference does not pay for them.
    """

    sees: ClassVar[Literal["nothing", "kept", "all"]]
    """What the choice may depend on: nothing, the frames kept so far, or all frames of the exam."""
    stochastic_at_inference: ClassVar[bool] = False
    scores_prefixes: bool = False
    """Whether training scores the exam after each choice, not after the last one alone."""

    def __init__(self, keep: float, settings: S) -> None:
        super().__init__()
        self.keep = keep
        self.settings = settings

    @abstractmethod
    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        """Choose.

        Args:
            frames: (B,T,C,H,W), uint8, or floating point in [0, 1]; padded at the end.
            lengths: (B,) int64, frames before padding, at least 1.
            encode: the frame encoder, for a sampler that sees what it has kept.
            generator: where noise comes from; one for the batch, or one for each exam.

        Raises:
            ValueError: noise is needed and there is no generator, or an encoder and there is none.
        """

    def extent(self, frames: Tensor, lengths: Tensor) -> Extent:
        """Of exams (B,T,…) of `lengths` (B,) frames each."""
        counts = kept_count(self.keep, lengths)
        return Extent(
            valid=within(lengths, frames.shape[1]),
            counts=counts,
            rows=within(counts, int(counts.max())),
        )

    def learning_rate(self, model_rate: float, sampler_rate: float) -> float:
        """The rate of this sampler's parameters, given the model's and the samplers' in general."""
        return sampler_rate


def kept_count(keep: float, lengths: Tensor) -> Tensor:
    """k_i = ceil(keep · length_i), at least 1; int64, shape of `lengths`."""
    share = _meant(keep)
    return -(lengths * -share.numerator // share.denominator)


@cache
def _meant(keep: float) -> Fraction:
    """The fraction that was written, above 0: 0.07 · 100 is above 7 in floating point."""
    return max(Fraction(keep).limit_denominator(1_000_000), Fraction(1, 1_000_000))


def within(counts: Tensor, size: int) -> Tensor:
    """(B,size) bool, True in the first `counts[i]` places of row i."""
    return torch.arange(size, device=counts.device) < counts[:, None]

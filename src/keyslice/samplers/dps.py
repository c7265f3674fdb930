"""Deep Probabilistic Subsampling: a learned pattern, the same for every exam.

Huijben, Veeling, van Sloun, ICLR 2020, with the values of its public code.
"""

import torch
from torch import Tensor, nn

from keyslice.config.samplers import DPSSettings
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.noise import Generators
from keyslice.samplers.positions import interpolation
from keyslice.samplers.selection import Selection
from keyslice.samplers.sequential import choose, open_frames, relax


class DPS(Sampler[DPSSettings]):
    """Row j of k_i chooses by its logits Φ[j, ·], earlier choices masked; τ is constant.

    Φ (positions, positions) is laid over the rows and the length of each exam by bilinear
    interpolation, so one pattern fits exams of any length and any k_i.
    """

    sees = "nothing"

    def __init__(self, keep: float, settings: DPSSettings) -> None:
        super().__init__(keep, settings)
        self.logits = nn.Parameter(
            torch.randn(settings.positions, settings.positions) * settings.initial_std
        )

    def learning_rate(self, model_rate: float, sampler_rate: float) -> float:
        """A multiple of the model's own: at that rate itself the logits barely move."""
        return self.settings.logit_rate * model_rate

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        extent = self.extent(frames, lengths)
        valid, counts, rows = extent
        scores = pattern(self.logits, counts, lengths, rows.shape[1], valid.shape[1])
        if self.training:
            scores = scores + extent.noise(generator)
        chosen = choose(scores, valid)
        soft = None
        if torch.is_grad_enabled():
            soft = relax(scores, open_frames(chosen, valid), rows, self.settings.temperature)
        return Selection.from_choices(chosen, rows, lengths, valid, soft=soft)


def pattern(logits: Tensor, counts: Tensor, lengths: Tensor, k: int, T: int) -> Tensor:
    """Logits Φ (P,P) laid over k_i = `counts` rows and `lengths` frames of each exam, (B,k,T)."""
    over_rows = interpolation(counts, k, logits.shape[0])
    over_frames = interpolation(lengths, T, logits.shape[1])
    return over_rows @ logits @ over_frames.transpose(1, 2)

"""Frames at random, without replacement."""

from torch import Tensor

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.noise import Generators, exam_noise
from keyslice.samplers.selection import Selection


class Random(Sampler[SamplerSettings]):
    """Keeps k_i frames, every subset of the exam's own frames as likely as any other.

    They are the k_i largest of independent samples, one for each frame.
    """

    sees = "nothing"
    stochastic_at_inference = True

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        valid, _, rows = self.extent(frames, lengths)
        keys = exam_noise(lengths[:, None], valid.shape[1:], generator, frames.device)
        keys = keys.masked_fill(~valid, -float("inf"))
        chosen = keys.topk(rows.shape[1], dim=1).indices
        return Selection.from_choices(chosen, rows, lengths, valid)

"""Equidistant frames."""

from torch import Tensor

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.noise import Generators
from keyslice.samplers.positions import equidistant
from keyslice.samplers.selection import Selection


class Uniform(Sampler[SamplerSettings]):
    """Keeps the middle frame of each of k_i equal parts of the exam's true length."""

    sees = "nothing"

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        valid, counts, rows = self.extent(frames, lengths)
        chosen = equidistant(counts, lengths, rows.shape[1])
        return Selection.from_choices(chosen, rows, lengths, valid)

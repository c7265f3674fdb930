"""Every frame: the upper bound in cost."""

from torch import Tensor

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.noise import Generators
from keyslice.samplers.selection import Selection


class Full(Sampler[SamplerSettings]):
    """Keeps all frames of each exam; `keep` is 1."""

    sees = "nothing"

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        valid, _, rows = self.extent(frames, lengths)
        chosen = rows.cumsum(1) - 1
        return Selection.from_choices(chosen, rows, lengths, valid)

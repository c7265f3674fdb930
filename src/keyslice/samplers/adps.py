"""Active DPS: each choice depends on what was kept before it.

Van Gorp, Huijben, Veeling, Pezzotti, van Sloun, ICML 2021, with the values of its public code.
"""

import torch
from torch import Tensor, nn

from keyslice.config.samplers import ADPSSettings
from keyslice.samplers.base import Encode, Sampler, within
from keyslice.samplers.noise import Generators
from keyslice.samplers.positions import interpolation
from keyslice.samplers.selection import Selection
from keyslice.samplers.sequential import choose_one, closing, open_frames, relax


class ADPS(Sampler[ADPSSettings]):
    """An LSTM fed the encoding of the frame just kept gives the logits of the next choice.

    Its first input is zero, so the first choice is the same for all exams of one length. A step
    encodes the newly kept frame of each exam and nothing else. At inference these encodings are
    those the model needs, and are returned: k in all. In training they only steer the choice: they
    are made without gradient (k-1 of them), and the kept frames are encoded once more together.
    """

    sees = "kept"

    def __init__(self, keep: float, settings: ADPSSettings, feature_width: int) -> None:
        """`feature_width` is D, the width of the encodings (N,D) that `encode` returns."""
        super().__init__(keep, settings)
        self.scores_prefixes = settings.average_steps
        self.feature_width = feature_width
        self.memory = nn.LSTMCell(feature_width, settings.memory_width)
        self.logits = nn.Sequential(
            nn.Linear(settings.memory_width, settings.hidden_width),
            nn.ReLU(),
            nn.Linear(settings.hidden_width, settings.positions),
        )

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        *,
        encode: Encode | None = None,
        generator: Generators | None = None,
    ) -> Selection:
        if encode is None:
            raise ValueError("adps sees the frames it has kept: pass encode=, the frame encoder")
        extent = self.extent(frames, lengths)
        valid, counts, rows = extent
        noise = None
        if self.training:
            noise = extent.noise(generator)
        # Encodings made in training mode, or wanted with gradient, are not what the model needs.
        inference = not (self.training or torch.is_grad_enabled())
        # The encoding of an exam's last frame steers no further choice.
        wanted = rows if inference else within(counts - 1, rows.shape[1])
        scores, chosen, features = self._steps(frames, lengths, valid, wanted, noise, encode)
        soft = None
        if torch.is_grad_enabled():
            soft = relax(scores, open_frames(chosen, valid), rows, self.settings.temperature)
        return Selection.from_choices(
            chosen, rows, lengths, valid, soft=soft, features=features if inference else None
        )

    def _steps(
        self,
        frames: Tensor,
        lengths: Tensor,
        valid: Tensor,
        wanted: Tensor,
        noise: Tensor | None,
        encode: Encode,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B,k,T), choices (B,k) and encodings (B,k,D), in the order of choice.

        Encodings are made where `wanted` (B,k) is True, and are zero elsewhere.
        """
        places = interpolation(lengths, frames.shape[1], self.settings.positions)
        seen = torch.zeros(
            len(frames), self.feature_width, dtype=places.dtype, device=frames.device
        )
        state = None
        closed = closing(valid)
        scores, chosen, features = [], [], []
        for step in range(wanted.shape[1]):
            hidden, cell = self.memory(seen, state)
            state = hidden, cell
            row = torch.einsum("bp,btp->bt", self.logits(hidden), places)
            if noise is not None:
                row = row + noise[:, step]
            choice = choose_one(row.detach(), closed).squeeze(1)
            seen = torch.zeros_like(seen)
            exams = wanted[:, step].nonzero().squeeze(1)
            if len(exams):
                with torch.no_grad():
                    seen[exams] = encode(frames[exams, choice[exams]]).to(seen.dtype)
            scores.append(row)
            chosen.append(choice)
            features.append(seen)
        return torch.stack(scores, 1), torch.stack(chosen, 1), torch.stack(features, 1)

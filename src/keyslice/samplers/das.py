"""Attention-guided adaptive subsampling, mended: what is learned decides which frames are kept.

In the paper (arXiv 2510.12376; `das_paper`) every row of the attention has the same ranking of the
frames, that of one unlearned feature, and rows draw with replacement. Here

    u_h[t]   = MLP_h(F[t])                          each head scores each frame from its features
    s_h[j]   = softplus(MLP'_h(mean_t L, p_j))      each row weighs the heads, as in eq. (1)
    A[j,t]   = 1/H Σ_h s_h[j] · u_h[t]              eq. (2) and (3), of rank up to H instead of 1
    τ        = τ0 · (0.5 + σ(MLP_temp(mean_t L)))   eq. (4)

with L[t] the logarithms of the frame's statistics, F[t] made from them (`frame_features`), and
p_j = (2j + 1)/k - 1 the row's place. At the start the rows are nearly alike; what they come to
weigh differently is learned. The rows choose one after the other, earlier choices masked: k
distinct frames, with Gumbel noise while training, without it at inference.

A frame's mean score g[t] = 1/k Σ_j A[j,t], without noise, also takes part in the temporal
attention's score of that frame if it is kept, by its gradient alone: g - stop(g), zero in value
(`settings.gate`). So the ranking learns what the attention learns, as a mixture of experts does
through its gates (Shazeer et al., ICLR 2017), and nothing but kept frames reaches the classifier.
The straight-through gradient alone judges an exchange of frames by a linear guess in pixels.

An empty frame tells nothing, and is chosen after all others (`settings.empty_last`), as padding is
not chosen at all. Were that left to be learned, the classifier would have to learn first from
frames most of which are empty, as they are in many segmented volumes.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from keyslice.config.samplers import DASSettings
from keyslice.samplers.attention import Heads, Temperature, diagnostics, row_features
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.features import (
    STATISTICS,
    Own,
    change,
    find_empty,
    log_statistics,
    pooled,
    standardised,
    statistics,
)
from keyslice.samplers.noise import Generators
from keyslice.samplers.positions import centred
from keyslice.samplers.selection import Selection
from keyslice.samplers.sequential import choose, open_frames, relax

FEATURES = 3 * len(STATISTICS) + 1
"""d: each statistic as it is, within the exam, and against the neighbours; and the position."""
LAST = 1000.0
"""Taken from the score of an empty frame: more than scores and noise could make up for."""


class DAS(Sampler[DASSettings]):
    """Scores every frame from light features of all of them, in one pass before the backbone."""

    sees = "all"

    def __init__(self, keep: float, settings: DASSettings) -> None:
        super().__init__(keep, settings)
        heads, hidden = settings.heads, settings.hidden_width
        self.scores = Heads(FEATURES, heads, hidden, bias=False)
        self.scales = Heads(len(STATISTICS) + 1, heads, hidden, bias=True)
        self.temperature = Temperature(
            len(STATISTICS),
            hidden,
            settings.base_temperature,
            adaptive=settings.adaptive_temperature,
        )

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
        values = statistics(frames, self.settings.feature_stride)
        levels = log_statistics(values)
        own = Own.of(lengths, valid)
        summary = pooled(levels, own)  # (B,1,n)
        scores = self.scores(frame_features(levels, summary, own, lengths))  # (B,T,H)
        scales = softplus(self.scales(row_features(summary, counts, rows.shape[1])))  # (B,k,H)
        logits = scales @ scores.transpose(1, 2) / self.settings.heads  # (B,k,T)
        attention = logits
        if self.settings.empty_last:
            last = find_empty(frames, values, valid)
            if last is not None:
                attention = attention - LAST * last[:, None]
        if self.training:
            attention = attention + extent.noise(generator)
        chosen = choose(attention, valid)
        soft, gate, figures = None, None, {}
        if torch.is_grad_enabled():
            temperature = self.temperature(summary)
            soft = relax(attention, open_frames(chosen, valid), rows, temperature)
            if self.settings.gate:
                opinion = (logits * rows[..., None]).sum(1) / counts[:, None]  # (B,T)
                gate = (opinion - opinion.detach()).gather(1, chosen)
            figures = diagnostics(temperature, scores.mT, scales.mT, valid, rows)
        return Selection.from_choices(
            chosen, rows, lengths, valid, soft=soft, gate=gate, diagnostics=figures
        )


def frame_features(levels: Tensor, mean: Tensor, own: Own, lengths: Tensor) -> Tensor:
    """F (B,T,d): levels (B,T,n), the same within the exam, those against the neighbours; position.

    `mean` (B,1,n) is that of the levels over the exam's own frames.
    The position runs from -1 to 1 over the exam's own frames.
    """
    within_exam = standardised(levels, mean, own)
    position = centred(lengths, levels.shape[1])[..., None]
    return torch.cat((levels, within_exam, change(within_exam), position), dim=-1)

"""Deep attention-guided adaptive subsampling, the equations as written (arXiv 2510.12376).

    s_h = softplus(MLP_h(F))                        (1)
    A_h[j,t] = a_base[t] · s_h[j]                   (2)
    A = 1/H Σ_h A_h                                 (3)
    τ = τ0 · (0.5 + σ(MLP_temp(F)))                 (4)
    P_soft = softmax_t((A + G) / τ), G ~ Gumbel     (5), (6)

A has rank one, and s_h is positive: without noise all k rows choose the same frame. So the noise
stays on at inference, which the paper leaves open. Rows draw independently, so a frame may come
more than once; the ranking of the frames is that of a_base, which is not learned; and the heads,
which share a_base, are nearly alike from the start, as the monitors will say.

What the paper does not say is chosen thus. F (variance, Sobel, Laplacian) is averaged over the
exam's frames where MLP_h and MLP_temp need one vector for an exam. a_base is the variance of each
frame, standardised within the exam so that a scale means the same in every exam.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from keyslice.config.samplers import DASPaperSettings
from keyslice.samplers.attention import Heads, Temperature, diagnostics, row_features
from keyslice.samplers.base import Encode, Sampler
from keyslice.samplers.features import (
    MEAN,
    STATISTICS,
    VARIANCE,
    Own,
    log_statistics,
    pooled,
    standardised,
    statistics,
)
from keyslice.samplers.noise import Generators
from keyslice.samplers.selection import Selection
from keyslice.samplers.sequential import relax

PAPER = [i for i in range(len(STATISTICS)) if i != MEAN]
"""The columns that the paper's F has: it names no mean."""


class DASPaper(Sampler[DASPaperSettings]):
    """k independent draws, with replacement, from a base attention sharpened by learned scales."""

    sees = "all"
    stochastic_at_inference = True

    def __init__(self, keep: float, settings: DASPaperSettings) -> None:
        super().__init__(keep, settings)
        self.scales = Heads(len(PAPER) + 1, settings.heads, settings.hidden_width, bias=True)
        self.temperature = Temperature(
            len(PAPER),
            settings.hidden_width,
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
        own = Own.of(lengths, valid)
        summary = pooled(log_statistics(values[..., PAPER]), own)  # (B,1,d)
        variance = values[..., [VARIANCE]]
        base = standardised(variance, pooled(variance, own), own).mT  # (B,1,T)
        scales = softplus(self.scales(row_features(summary, counts, rows.shape[1])))  # (B,k,H)
        attention = scales.mean(-1, keepdim=True) * base  # (B,k,T)
        noise = extent.noise(generator)
        scores = attention + noise
        is_open = valid[:, None]
        chosen = scores.detach().masked_fill(~is_open, -torch.inf).argmax(-1)
        soft, figures = None, {}
        if torch.is_grad_enabled():
            temperature = self.temperature(summary)
            soft = relax(scores, is_open, rows, temperature)
            heads = scales.shape[-1]
            figures = diagnostics(temperature, base.expand(-1, heads, -1), scales.mT, valid, rows)
        return Selection.from_choices(chosen, rows, lengths, valid, soft=soft, diagnostics=figures)

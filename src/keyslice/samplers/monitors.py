"""What a sampler did over an epoch, and when that looks wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from keyslice.config.samplers import AttentionSettings, SamplerSettings
from keyslice.samplers.positions import relative
from keyslice.samplers.selection import Selection

BINS = 10
COLLAPSED_HEADS = 0.99
"""Mean cosine between the heads from which they count as one."""
NO_ENTROPY = 0.01
"""Mean entropy of the soft rows, as a share of log T, below which nothing is left to learn from."""
AT_BOUND = 0.01
"""Distance of τ/τ0 from 0.5 or 1.5 that counts as sitting there."""


@dataclass(frozen=True)
class Figures:
    """An epoch's monitors; None where the sampler has no such thing."""

    distinct: float
    """Distinct kept frames as a share of kept frames, mean over exams."""
    positions: tuple[float, ...]
    """Share of kept frames in each tenth of the exam's length."""
    entropy: float | None = None
    """Entropy of the soft rows as a share of log T, mean over exams."""
    head_similarity: float | None = None
    """Cosine between the heads, mean over pairs and exams."""
    temperature_low: float | None = None
    temperature_high: float | None = None


def per_exam(selection: Selection) -> dict[str, Tensor]:
    """The figures of one batch, detached: (B,) each, and `positions` (B,10) in frames."""
    figures = dict(selection.diagnostics)
    figures["distinct"] = selection.distinct / selection.kept
    figures["positions"] = position_counts(selection)
    if selection.soft is not None:
        figures["entropy"] = row_entropy(selection.soft.detach(), selection.mask, selection.lengths)
    return figures


def row_entropy(soft: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Entropy of the rows of `soft` (B,k,T) over log length, mean over the rows of `mask`, (B,).

    0 is certainty. No preference is 1 where rows draw with replacement; less where they choose one
    after the other, since fewer frames are open to the later ones. An exam of one frame has 0.
    """
    entropy = torch.special.entr(soft).sum(-1)
    most = lengths.to(soft.dtype).log().clamp(min=math.log(2))
    return entropy.sum(1) / mask.sum(1) / most  # absent rows are zero: no entropy


def position_counts(selection: Selection) -> Tensor:
    """How many kept frames lie in each tenth of the exam's length, (B,10).

    Frame t of an exam of length L lies at (t + 1/2) / L.
    """
    place = relative(selection.lengths, selection.valid.shape[1]).gather(1, selection.indices)
    bins = (place * BINS).long()
    hits = (bins[..., None] == torch.arange(BINS, device=bins.device)) & selection.mask[..., None]
    return hits.sum(1)


def figures(batches: Sequence[dict[str, Tensor]]) -> Figures:
    """An epoch's figures from those of its batches (see `per_exam`), at least one."""
    epoch = {name: torch.cat([batch[name] for batch in batches]).double() for name in batches[0]}
    means = {
        name: epoch[name].mean().item()
        for name in ("distinct", "entropy", "head_similarity")
        if name in epoch
    }
    counts = epoch["positions"].sum(0)
    temperatures = {}
    if "temperature" in epoch:
        low, high = epoch["temperature"].aminmax()
        temperatures = {"temperature_low": low.item(), "temperature_high": high.item()}
    positions = tuple((counts / counts.sum().clamp(min=1)).tolist())
    return Figures(positions=positions, **means, **temperatures)


def warnings(figures: Figures, settings: SamplerSettings) -> list[str]:
    """What looks wrong, one sentence each: heads alike, no entropy, temperature at its bound."""
    found = []
    similarity = figures.head_similarity
    if similarity is not None and similarity > COLLAPSED_HEADS:
        found.append(
            f"the heads have collapsed into one (cosine {similarity:.3f}); try fewer heads"
        )
    if figures.entropy is not None and figures.entropy < NO_ENTROPY:
        found.append(
            f"the sampling has no entropy left ({figures.entropy:.4f} of log T), so it cannot "
            "learn further; try a lower learning rate or a higher temperature"
        )
    low, high = figures.temperature_low, figures.temperature_high
    if isinstance(settings, AttentionSettings) and settings.adaptive_temperature and low and high:
        base = settings.base_temperature
        if high / base < 0.5 + AT_BOUND or low / base > 1.5 - AT_BOUND:
            found.append(
                f"the temperature sits at its bound ({low:.3f} to {high:.3f} with a base of "
                f"{base:g}); try another base_temperature"
            )
    return found

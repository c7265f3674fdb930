"""Settings of each selection method, by its name in the registry."""

from typing import Annotated

from pydantic import Field

from keyslice.config.base import Positive, Rate, Settings


class SamplerSettings(Settings):
    """Of a sampler that has nothing to set."""


class DPSSettings(SamplerSettings):
    """Huijben et al., ICLR 2020, with the values of its public code."""

    positions: Positive = 64
    """Learned positions along an exam; interpolated to each exam's own length."""
    temperature: Rate = 2.0
    initial_std: Annotated[float, Field(strict=True, ge=0)] = 0.5
    """Standard deviation of the logits at the start; interpolation to shorter exams lessens it."""
    logit_rate: Rate = 10.0
    """Learning rate of the logits, as a multiple of the model's."""


class ADPSSettings(SamplerSettings):
    """Van Gorp et al., ICML 2021, with the values of its public code."""

    positions: Positive = 64
    temperature: Rate = 2.0
    memory_width: Positive = 128
    """Width of the LSTM."""
    hidden_width: Positive = 256
    average_steps: bool = False
    """Average the training loss over all prefixes of the kept frames, in order of choice, as the
    public code does. Off: where most frames tell nothing, prefixes of few teach the majority class
    (docs/method.md)."""


class AttentionSettings(SamplerSettings):
    """Attention-guided sampling (arXiv 2510.12376)."""

    heads: Positive = 4
    base_temperature: Rate = 1.0
    """τ0; the temperature lies between 0.5 and 1.5 times it."""
    adaptive_temperature: bool = True
    """False keeps τ at τ0."""
    hidden_width: Positive = 32
    feature_stride: Positive = 4
    """Features are computed from every n-th pixel each way, which leaves at least 4 each way."""


class DASSettings(AttentionSettings):
    """The paper's idea with its faults mended."""

    gate: bool = True
    """Let the scores learn from the temporal attention, too."""
    empty_last: bool = True
    """Choose frames whose samples are all equal after all others."""


class DASPaperSettings(AttentionSettings):
    """The paper's equations as written."""

    feature_stride: Positive = 1


SAMPLER_SETTINGS: dict[str, type[SamplerSettings]] = {
    "full": SamplerSettings,
    "random": SamplerSettings,
    "uniform": SamplerSettings,
    "nonempty": SamplerSettings,
    "dps": DPSSettings,
    "adps": ADPSSettings,
    "das_paper": DASPaperSettings,
    "das": DASSettings,
}

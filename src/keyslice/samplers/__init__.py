"""Selection methods: the registry, one file for each."""

from typing import Any

from keyslice.config.samplers import SamplerSettings
from keyslice.samplers.adps import ADPS
from keyslice.samplers.base import Encode, Sampler, kept_count
from keyslice.samplers.das import DAS
from keyslice.samplers.das_paper import DASPaper
from keyslice.samplers.dps import DPS
from keyslice.samplers.full import Full
from keyslice.samplers.noise import Generators
from keyslice.samplers.nonempty import NonEmpty
from keyslice.samplers.random import Random
from keyslice.samplers.selection import Selection
from keyslice.samplers.straight_through import Normalisation
from keyslice.samplers.uniform import Uniform

SAMPLERS: dict[str, type[Sampler[Any]]] = {
    "full": Full,
    "random": Random,
    "uniform": Uniform,
    "nonempty": NonEmpty,
    "dps": DPS,
    "adps": ADPS,
    "das_paper": DASPaper,
    "das": DAS,
}


def build(
    name: str, keep: float, settings: SamplerSettings, *, feature_width: int | None = None
) -> Sampler[Any]:
    """The sampler `name`, freshly initialised.

    Args:
        name: a key of `SAMPLERS`.
        keep: share of each exam's frames to keep.
        settings: of that sampler, see `keyslice.config.SAMPLER_SETTINGS`.
        feature_width: width of the frame encodings, for a sampler that sees what it has kept.

    Raises:
        ValueError: the sampler sees encodings and their width is not given.
    """
    kind: Any = SAMPLERS[name]
    if kind.sees != "kept":
        return kind(keep, settings)
    if feature_width is None:
        raise ValueError(f"{name} sees encodings of what it has kept: pass feature_width=")
    return kind(keep, settings, feature_width)


__all__ = [
    "SAMPLERS",
    "Encode",
    "Generators",
    "Normalisation",
    "Sampler",
    "Selection",
    "build",
    "kept_count",
]

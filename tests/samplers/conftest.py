"""Exams, encoders and samplers that the tests of this folder share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from keyslice.config import SAMPLER_SETTINGS
from keyslice.samplers import SAMPLERS, Sampler, build

FEATURE_WIDTH = 6


def encode(frames: Tensor) -> Tensor:
    """Frames (N,C,H,W) to (N,6), depending on every pixel."""
    flat = frames.to(torch.get_default_dtype()).flatten(1) / 255
    weights = torch.linspace(-1, 1, flat.shape[1] * FEATURE_WIDTH).sin()
    return flat @ weights.reshape(flat.shape[1], FEATURE_WIDTH)


@pytest.fixture(params=list(SAMPLERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make() -> Callable[..., Sampler]:
    """A sampler by name, seeded, without touching the global generator."""

    def make(name: str, keep: float = 0.5, *, seed: int = 0, **settings: object) -> Sampler:
        keep = 1.0 if name == "full" else keep
        chosen = SAMPLER_SETTINGS[name].model_validate(settings)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build(name, keep, chosen, feature_width=FEATURE_WIDTH)

    return make


@pytest.fixture
def run() -> Callable[..., object]:
    """The sampler's selection, with an encoder and a seeded generator for each exam."""

    def run(sampler: Sampler, frames: Tensor, lengths: Tensor, *, seed: int = 0) -> object:
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(frames))]
        return sampler(frames, lengths, encode=encode, generator=generators)

    return run


@pytest.fixture(name="encode")
def encode_fixture() -> Callable[[Tensor], Tensor]:
    return encode

"""Networks and exams to measure with; weights are random, since speed does not depend on them."""

import torch
from torch import Tensor

from keyslice.config import Backbone, Evaluate, Model, Prepare, StageSettings, Train
from keyslice.config.samplers import SAMPLER_SETTINGS
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier

BACKBONE = Backbone(weights="none")


def network(sampler: str, keep: float, size: int) -> FrameClassifier:
    """A variant for two classes, on frames of `size` pixels a side."""
    settings = StageSettings(
        dataset="benchmark",
        classes=("no", "yes"),
        variant=sampler,
        sampler=sampler,
        keep=keep,
        sampler_settings=SAMPLER_SETTINGS[sampler](),
        prepare=Prepare(image_size=size),
        backbone=BACKBONE,
        model=Model(),
        train=Train(),
        evaluate=Evaluate(),
    )
    model = build.fresh(settings, seed=0)
    return model.eval()


def exams(count: int, length: int, size: int) -> tuple[Tensor, Tensor]:
    """Frames (B,T,1,H,W) of noise, uint8, and their lengths."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, length, 1, size, size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return frames, torch.full((count,), length)

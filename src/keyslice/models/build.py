"""From settings to a network, and from a network's file back to it."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from keyslice.config import StageSettings
from keyslice.models import backbone as backbones
from keyslice.models.backbone import Backbone
from keyslice.models.classifier import FrameClassifier, chunk_frames
from keyslice.samplers import build as build_sampler


def assemble(settings: StageSettings, backbone: Backbone) -> FrameClassifier:
    """The network of a variant around an encoder, channels last."""
    sampler = build_sampler(
        settings.sampler,
        settings.keep,
        settings.sampler_settings,
        feature_width=backbone.width,
    )
    model = FrameClassifier(
        sampler,
        backbone,
        classes=len(settings.classes),
        settings=settings.model,
        normalisation=backbones.normalisation(backbone),
        prefixes=sampler.scores_prefixes,
        chunk=chunk_frames(settings.prepare.image_size),
    )
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def fresh(settings: StageSettings, seed: int) -> FrameClassifier:
    """An untrained network; its initial values follow from the seed alone.

    Raises:
        UserError: see `keyslice.models.backbone.build`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, _ = backbones.build(settings.backbone, settings.prepare.image_size)
        return assemble(settings, encoder)


def unlike(settings: StageSettings, file: Path, *, weights_file: str = "") -> str:
    """Why a variant's network cannot take its values from a file; empty: it can.

    It takes all of them or none: each must be there, of the same shape and type, and no other.

    Args:
        settings: of the variant.
        file: what `save` wrote.
        weights_file: see `load`.
    """
    own = _empty(settings, weights_file).state_dict()
    its = load_file(file)
    other = [
        name
        for name in sorted({*own, *its})
        if name not in own
        or name not in its
        or (own[name].shape, own[name].dtype) != (its[name].shape, its[name].dtype)
    ]
    if not other:
        return ""
    return f"{len(other)} of {len({*own, *its})} tensors are other ones, as {other[0]}"


def continued(settings: StageSettings, file: Path, *, weights_file: str = "") -> FrameClassifier:
    """A network whose values are a file's, all of them; in training mode.

    Args:
        settings: of the network.
        file: what `save` wrote, of a network that is not `unlike` it.
        weights_file: see `load`.
    """
    model = _empty(settings, weights_file)
    model.load_state_dict(load_file(file))
    return model


def _empty(settings: StageSettings, weights_file: str) -> FrameClassifier:
    """A network whose values are to be replaced; the global generator is left alone."""
    with torch.random.fork_rng():
        size = settings.prepare.image_size
        encoder = backbones.create(settings.backbone.name, size, weights_file=weights_file)
        return assemble(settings, encoder)


def save(model: FrameClassifier, file: Path) -> None:
    """Write the parameters and buffers, nothing else."""
    save_file({key: value.contiguous().cpu() for key, value in model.state_dict().items()}, file)


def load(settings: StageSettings, file: Path, *, weights_file: str = "") -> FrameClassifier:
    """A trained network in evaluation mode.

    Args:
        settings: those it was trained with.
        file: what `save` wrote.
        weights_file: name of the weights it started from, on which a backbone's constants depend.
    """
    return continued(settings, file, weights_file=weights_file).eval()

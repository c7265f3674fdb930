"""The per-frame encoder: any timm model, with weights from the hub, a file, or none."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.mobilenetv3 import MobileNetV3
from torch import Tensor, nn

from keyslice.config import Backbone as BackboneSettings
from keyslice.errors import UserError, did_you_mean
from keyslice.models import hub
from keyslice.models.small_maps import quicken
from keyslice.samplers.straight_through import Normalisation

# Torchvision trained MobileNetV3 with this epsilon; timm's own default gives other features.
_TORCHVISION_EPSILON = {"mobilenetv3": 1e-3}


@dataclass(frozen=True)
class WeightsOrigin:
    """Which weights a backbone started from; part of a model's provenance."""

    source: str
    """`none`, `hub:<timm tag>`, or a file's name (never its folder)."""
    sha256: str | None
    """Over the tensors as loaded (names, types, shapes, values), whether they came from a file or
    the hub; None where there were none."""


class Backbone(nn.Module):
    """Frames (N,3,H,W), normalised, to features (N,`width`).

    Features are the mean of the last feature map over its pixels, or for token models timm's own
    pooling. The head convolution that MobileNetV3 has after its pooling is left out.
    """

    def __init__(self, network: nn.Module, image_size: int) -> None:
        """For frames with sides of `image_size` pixels; RuntimeError where they are too small, and
        TypeError where the network gives anything but one tensor.
        """
        super().__init__()
        if isinstance(network, MobileNetV3):
            network.conv_head = network.norm_head = nn.Identity()
        quicken(network)
        self.network = network
        probe = torch.zeros(1, 3, image_size, image_size)
        training = network.training
        with torch.no_grad():
            self.width = self.eval()(probe).shape[1]
        self.train(training)

    def forward(self, frames: Tensor) -> Tensor:
        return self.pool(self.network.forward_features(frames))  # pyright: ignore[reportCallIssue]

    def pool(self, maps: Tensor) -> Tensor:
        """Features of the network's last maps: (N,C,H,W), (N,H,W,C), or tokens (N,L,C)."""
        if not isinstance(maps, Tensor):
            raise TypeError(f"a {type(maps).__name__} of maps")
        if maps.ndim == 4:
            # timm's few channels-last models say so; every other map is (N,C,H,W).
            channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
            return maps.mean((1, 2) if channels_last else (2, 3))
        return self.network.forward_head(maps, pre_logits=True)  # pyright: ignore


def build(settings: BackboneSettings, image_size: int) -> tuple[Backbone, WeightsOrigin]:
    """The backbone with the weights that the settings name.

    Args:
        settings: section `backbone`.
        image_size: side of the frames, pixels; models with a fixed input size are built for it.

    Raises:
        UserError: unknown timm name, weights that are missing, unreadable or do not fit, a hub that
            cannot be reached or has them pickled only.
    """
    if settings.weights == "none":
        return create(settings.name, image_size), WeightsOrigin("none", None)
    file = weights_file(settings)
    if file is not None:
        backbone = create(settings.name, image_size, weights_file=file.name)
        _load(backbone.network, file, settings)
        return backbone, WeightsOrigin(file.name, _sha256(backbone.network))
    record = _registered(settings.name)
    backbone = create(settings.name, image_size, fetched=hub.fetched(settings.name, record))
    source = f"hub:{record.architecture}.{record.tag}"
    return backbone, WeightsOrigin(source, _sha256(backbone.network))


def create(
    name: str, image_size: int, *, weights_file: str = "", fetched: Path | None = None
) -> Backbone:
    """An encoder by its timm name, for frames with sides of `image_size` pixels.

    Args:
        name: a timm name, with or without a tag.
        image_size: see `build`.
        weights_file: the name of the file that will fill it; timm's own weights aside.
        fetched: timm's own weights, which fill it here.

    Raises:
        UserError: unknown timm name, or frames that are too small for it.
    """
    record = _registered(name)
    options: dict[str, Any] = {"num_classes": 0}
    if ".tv_" in weights_file:
        for family, epsilon in _TORCHVISION_EPSILON.items():
            if name.startswith(family):
                options["bn_eps"] = epsilon
    if record is not None and record.fixed_input_size:
        options["img_size"] = image_size
    if fetched is not None:
        # Some models' own loader reads another format; the hub's file needs none.
        options["pretrained_cfg_overlay"] = {"file": str(fetched), "custom_load": False}
    network = timm.create_model(name, pretrained=fetched is not None, **options)
    try:
        return Backbone(network, image_size)
    except TypeError as error:
        raise UserError(
            f"{name} gives {error}",
            where="backbone.name",
            rule="a backbone gives one map, or one sequence of tokens, of each frame",
            remedy="choose another model",
        ) from None
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{name} cannot encode frames of {image_size}x{image_size} pixels "
            f"({str(error).splitlines()[0]})",
            where="backbone.name",
            rule="its layers need larger frames",
            remedy="raise prepare.image_size, or choose another model",
        ) from None


def _registered(name: str) -> Any:
    """What timm has on record for a model, or None; UserError where it knows no such model."""
    try:
        if timm.is_model(name):
            return timm.get_pretrained_cfg(name)
        known = timm.list_models()
    except RuntimeError:  # a model that it knows, with a tag that it does not
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    raise UserError(
        f"unknown timm model {name!r}", where="backbone.name", remedy=did_you_mean(name, known)
    )


def normalisation(backbone: Backbone) -> Normalisation:
    """The input statistics that the backbone was trained with."""
    config: Any = backbone.network.pretrained_cfg
    return Normalisation(tuple(config["mean"]), tuple(config["std"]))


def weights_file(settings: BackboneSettings) -> Path | None:
    """The file that the settings come down to, or None: the hub or no weights.

    Raises:
        UserError: there is no such file or folder, or several files are of the model.
    """
    if settings.weights == "none":
        return None
    if settings.weights != "imagenet":
        file = Path(settings.weights).expanduser()
        if not file.is_file():
            raise UserError(
                f"no such file: {settings.weights}",
                where="backbone.weights",
                rule="imagenet, none, or a safetensors file",
                remedy="mend the path",
            )
        return file
    folder = os.environ.get(hub.FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UserError(
            f"no such folder: {folder}",
            where=hub.FOLDER,
            rule="a folder of <timm name>.*.safetensors",
            remedy="mend the path, or leave the variable out",
        )
    found = sorted(Path(folder).glob(f"{settings.name}.*safetensors"))
    if len(found) > 1:
        raise UserError(
            f"several files are of {settings.name}: {', '.join(file.name for file in found)}",
            where=f"{hub.FOLDER} ({folder})",
            rule="the weights that a training starts from must be certain",
            remedy="name one of them in backbone.weights, or its tag in backbone.name",
        )
    return found[0] if found else None


def _load(network: nn.Module, file: Path, settings: BackboneSettings) -> None:
    """Fill `network`; the file may also hold what follows the pooling."""
    try:
        missing, unexpected = network.load_state_dict(load_file(file), strict=False)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file.name} does not fit {settings.name} ({reason})",
            where="backbone.weights",
            rule="a safetensors file of that timm model",
            remedy="give the right file, or none",
        ) from None
    unused = ("conv_head.", "norm_head.", "classifier.", "head.")  # whatever follows the pooling
    unexpected = [key for key in unexpected if not key.startswith(unused)]
    if missing or unexpected:
        raise UserError(
            f"{file.name} does not fit {settings.name}: {len(missing)} tensors missing, "
            f"{len(unexpected)} too many",
            where="backbone.weights",
            rule="a safetensors file of that timm model",
            remedy="give the right file, or none",
        )


def _sha256(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Whole networks at offsets, against copies of them that compute every phase and pick one."""

import copy
import random
from collections.abc import Iterable

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad

from keyslice.models.backbone import create
from keyslice.models.discarded import Subsampled
from keyslice.models.discarded.network import Start, State
from keyslice.models.last_maps import LastMaps

SIDES = {
    "mobilenetv3_small_100": 40,
    "resnet18": 52,
    "efficientnet_b0": 40,
    "convnext_atto": 48,
    "vit_tiny_patch16_224": 32,
    "tf_mobilenetv3_small_minimal_100": 43,  # pads as TensorFlow does
    "maxima": 27,
}
"""Networks, and pixels of their frames. Sizes that no power of two divides leave pixels over."""


class _Picked(nn.Module):
    """A layer at stride 1 on maps that are extended at the far end, of which a phase is picked."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, nn.Conv2d | nn.MaxPool2d)
        self.layer, self.offset = layer, (0, 0)
        sides = layer.stride, layer.padding
        (self.stride, _), (self.before, _) = (s if isinstance(s, tuple) else (s, s) for s in sides)

    def forward(self, maps: Tensor) -> Tensor:
        dense = self._maximum(maps) if isinstance(self.layer, nn.MaxPool2d) else self._sum(maps)
        down, right = self.offset
        rows, columns = self.layer(maps).shape[-2:]
        picked = dense[..., down :: self.stride, right :: self.stride]
        return picked[..., :rows, :columns]

    def _sum(self, maps: Tensor) -> Tensor:
        layer, more = self.layer, self.stride - 1
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer, Conv2dSame):
            maps = pad_same(maps, [*layer.kernel_size], [*layer.stride], [*layer.dilation])
        else:
            maps = pad(maps, [self.before] * 4)
        maps = pad(maps, [0, more] * 2)
        return conv2d(maps, layer.weight, layer.bias, 1, 0, layer.dilation, layer.groups)

    def _maximum(self, maps: Tensor) -> Tensor:
        more = self.before + self.stride - 1
        maps = pad(maps, [0, more] * 2, mode="replicate")
        maps = pad(maps, [self.before, 0] * 2, value=-torch.inf)
        return max_pool2d(maps, self.layer.kernel_size, 1)


class _Copy:
    """A copy of a network that is at a state by what it is made of."""

    def __init__(self, module: nn.Module, network: Subsampled) -> None:
        self._module, self._picked = copy.deepcopy(module), []
        for number, level in enumerate(network.levels):
            for name in level.layers:
                holder, _, last = name.rpartition(".")
                picked = _Picked(self._module.get_submodule(name))
                setattr(self._module.get_submodule(holder), last, picked)
                self._picked.append((number, picked))

    def __call__(self, frames: Tensor, state: State) -> Tensor:
        for number, picked in self._picked:
            picked.offset = state[number]
        return self._module(frames)


def _random(module: nn.Module) -> nn.Module:
    """With nothing left at zero or one, where a mistake would not show."""
    torch.manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            around_zero = name.endswith(("bias", "running_mean"))
            value.copy_(0.2 * torch.randn_like(value) if around_zero else value.uniform_(0.5, 1.5))
    return module.eval()


def _network(name: str, side: int) -> nn.Module:
    if name != "maxima":
        sized = {"img_size": side} if "vit" in name else {}
        return _random(timm.create_model(name, num_classes=7, **sized))
    return _random(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 5, 3, 2, dilation=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
    )


def _alone(network: Subsampled) -> Iterable[State]:
    """Each state that is off the network itself at one level."""
    for number, level in enumerate(network.levels):
        for offset in level.offsets[1:]:
            yield (*network.origin[:number], offset, *network.origin[number + 1 :])


def _drawn(network: Subsampled, count: int) -> Iterable[State]:
    chance = random.Random(count)
    for _ in range(count):
        yield tuple(chance.choice(level.offsets) for level in network.levels)


@pytest.mark.parametrize(("name", "side"), SIDES.items())
@torch.no_grad()
def test_without_offsets_a_network_is_itself_to_the_last_bit(name: str, side: int) -> None:
    frames = torch.randn(2, 3, side, side)
    modules = [_network(name, side)]
    if name != "maxima":
        modules.append(_random(LastMaps(create(name, side))))
    for module in modules:
        network, own = Subsampled(module, frames[:1]), module(frames)
        strided = {
            name
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride not in (1, (1, 1))
        }
        assert {name for level in network.levels for name in level.layers} == strided
        [passed] = network.run([Start(network.origin, 0, (frames,))])
        assert torch.equal(passed.output, own)
        for cut, values in passed.values.items():
            [resumed] = network.run([Start(network.origin, cut, values)])
            assert torch.equal(resumed.output, own)


@pytest.mark.parametrize(("name", "side"), SIDES.items())
@torch.no_grad()
def test_at_offsets_it_is_the_copy_that_picks_these_phases(name: str, side: int) -> None:
    module = _network(name, side).double()
    frames = torch.randn(1, 3, side, side, dtype=torch.double)
    network, own = Subsampled(module, frames[:1]), module(frames)
    reference = _Copy(module, network)
    for state in [*_alone(network), *_drawn(network, 5)]:
        found = network(frames, state)
        torch.testing.assert_close(found, reference(frames, state))
        assert not torch.allclose(found, own)


@torch.no_grad()
def test_tokens_of_the_size_that_a_transformer_was_made_for() -> None:
    module = _network("vit_tiny_patch16_224", 224)
    frames = torch.randn(1, 3, 224, 224)
    network = Subsampled(module, frames)
    assert torch.equal(network(frames, network.origin), module(frames))
    reference = _Copy(module, network)
    for state in [((15, 15),), *_drawn(network, 2)]:
        found = network(frames, state)
        torch.testing.assert_close(found, reference(frames, state), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "side"), SIDES.items())
@torch.no_grad()
def test_resumed_from_parent_to_child_it_is_what_it_is_from_the_image(name: str, side: int) -> None:
    module = LastMaps(create(name, side)) if name != "maxima" else _network(name, side)
    module, frames = _random(module).double(), torch.randn(1, 3, side, side, dtype=torch.double)
    network = Subsampled(module, frames[:1])
    for last in _drawn(network, 2):
        [parent] = network.run([Start(network.origin, 0, (frames,))])
        values = {0: (frames,), **parent.values}
        for level in range(len(last)):
            state = (*last[: level + 1], *network.origin[level + 1 :])
            cut = network.cut(level)
            assert cut == level + 1
            [child] = network.run([Start(state, cut, values[cut])])
            torch.testing.assert_close(child.output, network(frames, state))
            values |= dict(child.values)

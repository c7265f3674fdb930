"""A subsampling layer at an offset, against itself at stride 1, of which a phase is picked."""

from typing import Any

import pytest
import torch
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import StdConv2d, StdConv2dSame
from torch import Tensor, nn
from torch.nn.functional import pad

from keyslice.errors import UserError
from keyslice.models.discarded.phase import Phases, may_shift

SIZES = [(8, 8), (7, 9), (5, 6), (3, 3)]
ZEROS = [
    lambda s: nn.Conv2d(3, 4, 3, s, 1),
    lambda s: nn.Conv2d(3, 3, 5, s, 2, bias=False, groups=3),
    lambda s: nn.Conv2d(3, 4, 1, s),
    lambda s: nn.Conv2d(3, 4, 3, s, 2, dilation=2),
    lambda s: StdConv2d(3, 4, 3, s, 1),
    lambda s: nn.AvgPool2d(3, s, 1),
    lambda s: nn.AvgPool2d(2, s),
]


def _dense(layer: Any, maps: Tensor, more: int) -> Tensor:
    """What a layer of stride 1 gives, with so many zeros more at the end."""
    before = layer.padding if isinstance(layer.padding, int) else layer.padding[0]
    layer.padding = (0, 0)
    return layer(pad(maps, (before, before + more, before, before + more)))


@pytest.mark.parametrize("make", ZEROS)
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_an_offset_picks_its_phase_of_the_dense_map(make, stride, size) -> None:
    torch.manual_seed(0)
    layer, dense = make(stride), make(1)
    dense.load_state_dict(layer.state_dict())
    phases, maps = Phases(layer), torch.randn(2, 3, *size)
    own = layer(maps)
    full = _dense(dense, maps, stride)
    for row, column in phases.offsets:
        picked = full[:, :, row::stride, column::stride][:, :, : own.shape[2], : own.shape[3]]
        found = phases(maps, [(row, column)] * 2)
        torch.testing.assert_close(found, picked, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", ZEROS)
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_where_its_border_is_kept_a_layer_meets_there_what_it_always_has(make, stride, size):
    layer = make(stride)
    phases, maps = Phases(layer, "kept"), torch.randn(2, 3, *size)
    even = torch.full_like(maps, 0.7)
    for offset in phases.offsets:
        # What the whole map moved by is what the layer gives for the exam moved so.
        moved = maps.roll([-n for n in offset], (2, 3))
        for axis, n in zip((2, 3), offset, strict=True):
            if n:
                edge = moved.narrow(axis, size[axis - 2] - n, n)
                edge.copy_(moved.narrow(axis, size[axis - 2] - n - 1, 1).expand_as(edge))
        torch.testing.assert_close(phases(maps, [offset] * 2), layer(moved))
        assert torch.equal(phases(even, [offset] * 2), layer(even))


@pytest.mark.parametrize("stride", [2, 3])
def test_away_from_the_border_its_activations_are_the_same(stride: int) -> None:
    layer, maps = nn.Conv2d(3, 4, 5, stride, 2), torch.randn(3, 3, 23, 20)
    plain, kept = Phases(layer), Phases(layer, "kept")
    offsets = [plain.offsets[-1], (0, 0), plain.offsets[1]]
    found, wanted = kept(maps, offsets), plain(maps, offsets)
    within = (slice(None), slice(None), slice(1, -2), slice(1, -2))
    torch.testing.assert_close(found[within], wanted[within])
    assert torch.equal(found[1], wanted[1])
    assert not torch.allclose(found[0], wanted[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (2, 0), (2, 1), (3, 0)])
def test_a_maximum_is_over_what_exists(size, kernel, padding) -> None:
    layer, dense = nn.MaxPool2d(kernel, 2, padding), nn.MaxPool2d(kernel, 1)
    maps = torch.randn(1, 3, *size)
    padded = pad(maps, [padding, padding + 2] * 2, value=-torch.inf)
    full, own = dense(padded), layer(maps)
    phases = Phases(layer)
    for row, column in phases.offsets:
        picked = full[:, :, row::2, column::2][:, :, : own.shape[2], : own.shape[3]]
        found = phases(maps, [(row, column)])
        assert found.isfinite().all()
        inside = picked.isfinite()
        assert torch.equal(found[inside], picked[inside])


def test_a_mean_over_what_exists_counts_no_padding() -> None:
    layer = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    maps = torch.ones(1, 2, 5, 7)
    for down, right in Phases(layer).offsets:
        wanted = torch.ones(1, 2, 3, 4)
        wanted[:, :, 3 - down :] = wanted[..., 4 - right :] = 0  # no pixel is left there
        assert torch.equal(Phases(layer)(maps, [(down, right)]), wanted)


EVERY = [
    *[make(2) for make in ZEROS],
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(2, 2, ceil_mode=True),
    nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(2, 2, ceil_mode=True),
    nn.Conv2d(3, 4, 3, 2, 1, padding_mode="reflect"),
    nn.Conv2d(3, 4, 4, 4),
    nn.Conv2d(3, 4, 3, (2, 1), 1),
    Conv2dSame(3, 4, 3, 2),
    StdConv2dSame(3, 4, 3, 2),
    BlurPool2d(3),
]


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("size", [(9, 12), (5, 6)])
def test_whatever_the_layer_its_own_phase_is_itself_and_each_map_has_its_own(layer, size) -> None:
    phases, maps = Phases(layer), torch.randn(3, 3, *size)
    own = layer(maps)
    assert torch.equal(phases(maps, [(0, 0)] * 3), own)
    last, middle = phases.offsets[-1], phases.offsets[len(phases.offsets) // 2]
    mixed = phases(maps, [last, (0, 0), middle])
    assert mixed.shape == own.shape
    for n, offset in enumerate([last, (0, 0), middle]):
        alone = phases(maps[n : n + 1], [offset])[0]
        torch.testing.assert_close(mixed[n], alone, rtol=1e-5, atol=1e-5)


def test_an_offset_may_be_for_several_maps_but_for_as_many_as_the_others() -> None:
    phases, maps = Phases(nn.MaxPool2d(2)), torch.randn(6, 3, 8, 8)
    found = phases(maps, [(0, 1), (1, 0)])
    assert torch.equal(found, phases(maps, [(0, 1)] * 3 + [(1, 0)] * 3))
    with pytest.raises(UserError, match="6 maps cannot be shared out among 4"):
        phases(maps, [(0, 1)] * 4)


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: type(layer).__name__)
def test_inside_a_map_an_offset_is_a_map_that_begins_later(layer) -> None:
    phases, maps = Phases(layer), torch.randn(1, 3, 24, 24)
    for down, right in [phases.offsets[1], phases.offsets[-1]]:
        if getattr(layer, "same_pad", isinstance(layer, Conv2dSame)) and (down or right):
            continue  # where it pads depends on the size
        found, later = phases(maps, [(down, right)]), layer(maps[:, :, down:, right:])
        inside = (..., slice(2, later.shape[2] - 2), slice(2, later.shape[3] - 2))
        torch.testing.assert_close(found[inside], later[inside], rtol=1e-5, atol=1e-5)


def test_gradients_flow_through() -> None:
    layer = nn.Conv2d(2, 2, 3, 2, 1).double()
    maps = torch.randn(2, 2, 5, 5, dtype=torch.double, requires_grad=True)
    phases = Phases(layer)
    assert torch.autograd.gradcheck(lambda m: phases(m, [(1, 0), (0, 0)]), maps)


@pytest.mark.parametrize(
    "other", [nn.Conv2d(3, 4, 3, 1, 1), nn.Linear(2, 2), nn.MaxPool2d(3, 2, dilation=2)]
)
def test_what_does_not_subsample_or_is_unknown_is_none(other) -> None:
    assert not may_shift(other)

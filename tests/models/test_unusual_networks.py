"""Networks that are more than a chain of layers: each is followed rightly, or refused."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from keyslice.errors import UserError
from keyslice.models.discarded.network import Start, Subsampled


def _conv(stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, stride, 1)


class _Listing(nn.Module):
    """Blocks that hand on lists, look at what they are given, and write into it."""

    class Block(nn.Module):
        def __init__(self, stride: int) -> None:
            super().__init__()
            self.conv = _conv(stride)

        def forward(self, given: Tensor | list[Tensor]) -> list[Tensor]:
            if not isinstance(given, list):
                given = [given]
            given.append(self.conv(given[-1]))
            return given[-2:]

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[self.Block(stride) for stride in (2, 1, 2)])

    def forward(self, frames: Tensor) -> Tensor:
        before, last = self.blocks(frames)
        return last + before.mean((2, 3), keepdim=True)


class _Halves(nn.Module):
    """Has a tuple in hand where a layer begins."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _conv(), _conv(), _conv()

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.first(frames)
        halves = maps.chunk(2, 2)
        return self.second(halves[0]) + self.third(halves[1])


class _Sized(nn.Module):
    """Asks early how large things are and shapes maps by that later."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _conv(), _conv()

    def forward(self, frames: Tensor) -> Tensor:
        count, _, rows, columns = frames.shape
        maps = self.second(self.first(frames))
        return maps.view(count, 3, rows // 4 * (columns // 4))


class _Windows(nn.Module):
    """A layer reads the four windows of each image by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _conv(), _conv()

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.first(frames)
        windows = maps.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5)
        return self.second(windows.flatten(0, 2)).unflatten(0, (-1, 4)).sum(1)


@pytest.mark.parametrize(
    ("module", "cuts"), [(_Listing(), 2), (_Halves(), 2), (_Sized(), 2), (_Windows(), 1)]
)
@torch.no_grad()
def test_images_at_states_of_their_own_are_what_each_is_alone_and_resumed(module, cuts) -> None:
    frames = torch.randn(3, 3, 16, 16)
    network = Subsampled(module.eval(), frames[:1])
    assert len(network.levels) == 2
    assert torch.equal(network(frames, network.origin), module(frames))
    states = [((0, 0), (1, 0)), ((1, 1), (0, 1)), ((0, 0), (0, 0))]
    starts = [Start(state, 0, (frames[n : n + 1],)) for n, state in enumerate(states)]
    [*_, own] = passed = network.run(starts)
    for n, one in enumerate(passed):
        torch.testing.assert_close(one.output, network(frames[n : n + 1], states[n]))
    assert network.cut(1) == cuts
    [resumed] = network.run([Start(states[0], cuts, own.values[cuts])])
    torch.testing.assert_close(resumed.output, network(frames[2:], states[0]))


@torch.no_grad()
def test_a_layer_that_is_used_twice_has_an_offset_each_time() -> None:
    pool = nn.MaxPool2d(2)
    module = nn.Sequential(pool, _conv(1), pool).eval()
    frames = torch.randn(2, 3, 16, 16)
    network = Subsampled(module, frames[:1])
    assert len(network.levels) == 2
    apart = nn.Sequential(pool, module[1], copy.deepcopy(pool)).eval()
    for state in [((0, 1), (0, 0)), ((0, 0), (1, 0)), ((1, 1), (1, 0))]:
        found = network(frames, state)
        torch.testing.assert_close(found, Subsampled(apart, frames[:1])(frames, state))


@pytest.mark.parametrize("order", [1, -1])
def test_of_finer_and_coarser_maps_the_size_of_what_they_make_tells_the_scale(order: int) -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = _conv(), _conv(), _conv()

        def forward(self, frames: Tensor) -> Tensor:
            fine = self.first(frames)
            both = [fine, interpolate(self.second(fine), scale_factor=2.0)][::order]
            return self.third(both[0] + both[1]).flatten(2).transpose(1, 2)

    network = Subsampled(Fused().eval(), torch.zeros(1, 3, 16, 16))
    assert [level.layers for level in network.levels] == [("first",), ("second", "third")]
    assert network.scale == (4, 4)


def test_what_the_code_would_do_with_another_value_is_refused() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = _conv()

        def forward(self, frames: Tensor) -> Tensor:
            maps = self.conv(frames)
            return maps if isinstance(maps, Tensor) else maps * 2

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = _conv()

        def forward(self, frames: Tensor) -> list[Tensor]:
            return [self.conv(frames), frames]

    for module in (Asking(), Several()):
        with pytest.raises(UserError, match="cannot be traced"):
            Subsampled(module.eval(), torch.zeros(1, 3, 8, 8))

"""Networks at other phases, run from the image and resumed, and the search over their states."""

import weakref
from collections.abc import Sequence
from itertools import pairwise

import pytest
import timm
import torch
from torch import Tensor, nn

from keyslice.errors import UserError
from keyslice.models.backbone import create
from keyslice.models.discarded.aggregation import (
    StateAttention,
    aligned,
    by_entropy,
    displacement,
)
from keyslice.models.discarded.network import Level, Passed, Start, State, Subsampled
from keyslice.models.discarded.search import children, entropy, search

NETWORKS = {
    "mobilenetv3_small_100": 5,
    "resnet18": 5,
    "efficientnet_b0": 5,
    "convnext_atto": 4,
    "vit_tiny_patch16_224": 1,
    "maxima": 3,
    "mixnet_s": 5,
}
"""Each with its number of levels."""


class _Features(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = timm.create_model(name, num_classes=0)

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.forward_features(frames)  # pyright: ignore[reportCallIssue]


class _InPlace(nn.Module):
    """Writes into what it has read before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.first(frames)
        found = self.second(maps)
        maps.add_(1)
        return found + maps.mean((2, 3), keepdim=True)


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name != "maxima":
        return _Features(name).eval()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.MaxPool2d(3, 2, 1),
    ).eval()


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@torch.no_grad()
def test_without_offsets_it_is_the_network_and_resumed_it_is_what_it_is_from_the_image(
    name: str,
) -> None:
    module = _network(name)
    frames = torch.randn(3, 3, *[224 if "vit" in name else 64] * 2)
    network = Subsampled(module, frames[:1])
    assert len(network.levels) == NETWORKS[name]
    assert torch.equal(network(frames, network.origin), module(frames))
    [own] = network.run([Start(network.origin, 0, (frames,))])
    for number, level in enumerate(network.levels):
        state = list(network.origin)
        state[number] = level.offsets[-1]
        cut = network.cut(number)
        [found] = network.run([Start(tuple(state), cut, own.values[cut])])
        torch.testing.assert_close(found.output, network(frames, tuple(state)))
        assert not torch.equal(found.output, own.output)
        [again] = network.run([Start(network.origin, cut, own.values[cut])])
        assert torch.equal(again.output, own.output)


@torch.no_grad()
def test_what_is_read_again_is_not_written_into() -> None:
    module, frames = _InPlace().eval(), torch.randn(2, 3, 8, 8)
    network = Subsampled(module, frames[:1])
    [own] = network.run([Start(network.origin, 0, (frames,))])
    for _ in range(2):
        [found] = network.run([Start(network.origin, 2, own.values[2])])
        assert torch.equal(found.output, own.output)


class _Split(nn.Module):
    """Has halves of a map, which are no values of their own, and writes into one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1)
        self.third = nn.Conv2d(2, 2, 3, 2, 1)

    def forward(self, frames: Tensor, weight: float = 2.0) -> Tensor:
        maps = self.first(frames)
        halves = maps.split(2, 1)
        found = self.third(self.second(halves[0]))
        halves[1].mul_(weight)
        return found + maps.mean((2, 3), keepdim=True)[:, 2:]


@torch.no_grad()
def test_where_halves_of_a_map_are_in_hand_a_run_begins_before_them() -> None:
    module, frames = _Split().eval(), torch.randn(2, 3, 16, 16)
    network = Subsampled(module, frames[:1])
    [own] = network.run([Start(network.origin, 0, (frames,))])
    assert torch.equal(own.output, module(frames))
    assert [network.cut(level) for level in range(3)] == [1, 1, 1]
    for _ in range(2):
        state = ((0, 0), (0, 0), (0, 1))
        [found] = network.run([Start(state, 1, own.values[1])])
        torch.testing.assert_close(found.output, network(frames, state))


@torch.no_grad()
def test_runs_that_join_at_cuts_of_their_own_are_what_each_is_alone() -> None:
    network, frames = _small()
    states = [((0, 0), (0, 0), (1, 0)), ((0, 0), (1, 1), (0, 0)), ((0, 1), (0, 0), (0, 0))]
    own = network.run([Start(network.origin, 0, (frames[2 * n : 2 * n + 2],)) for n in range(3)])
    starts = [
        Start(state, cut, own[n].values[cut])
        for n, (state, cut) in enumerate(zip(states, (3, 2, 1), strict=True))
    ]
    for n, found in enumerate(network.run(starts)):
        alone = network(frames[2 * n : 2 * n + 2], states[n])
        torch.testing.assert_close(found.output, alone)


@torch.no_grad()
def test_a_chunk_holds_as_many_runs_as_read_as_much_as_its_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames, module = torch.randn(6, 3, 16, 16), _network("maxima")
    whole, chunked = Subsampled(module, frames[:1]), Subsampled(module, frames[:1], chunk=2)
    own = chunked.run([Start(whole.origin, 0, (frames[2 * n : 2 * n + 2],)) for n in range(3)])
    starts = [
        Start(state, cut, one.values[cut])
        for one in own
        for state, cut in ((((0, 0), (0, 0), (1, 0)), 3), (((0, 0), (1, 0), (0, 0)), 2))
    ]
    parts: list[list[Start]] = []
    run = Subsampled._run

    def noted(self: Subsampled, part: list[Start]) -> list[Passed]:
        parts.append(part)
        return run(self, part)

    monkeypatch.setattr(Subsampled, "_run", noted)
    found = chunked.run(starts)
    images = chunked.run([Start(starts[0].state, 0, (frames,)), Start(whole.origin, 0, (frames,))])
    monkeypatch.undo()
    for start, one in zip(starts, found, strict=True):
        torch.testing.assert_close(one.output, whole.run([start])[0].output)
    torch.testing.assert_close(images[1].output, torch.cat([one.output for one in own]))

    def read(part: list[Start]) -> int:
        return sum(values.numel() for start in part for values in start.values)

    *deep, first, second = parts
    assert len(first) == len(second) == 1  # one that reads more than a chunk goes alone
    assert [start for part in deep for start in part] == starts
    assert len(deep) < len(starts)
    for part, after in pairwise(deep):
        assert read(part) <= frames[:2].numel() < read([*part, after[0]])


def _small() -> tuple[Subsampled, Tensor]:
    frames = torch.randn(6, 3, 16, 16)
    return Subsampled(_network("maxima"), frames[:1]), frames


@torch.no_grad()
def test_layers_side_by_side_have_one_offset_and_layers_may_be_named() -> None:
    frames = torch.randn(1, 3, 64, 64)
    module = _network("resnet18")
    network = Subsampled(module, frames, ["network.layer3.0.downsample.0"])
    [level] = network.levels
    assert level.layers == ("network.layer3.0.conv1", "network.layer3.0.downsample.0")
    # What is left out of the search scales all the same.
    assert (level.scale, network.scale) == ((8, 8), (32, 32))
    assert displacement(network, ((1, 0),)) == (0.25, 0.0)
    deepest = Subsampled(module, frames, 2)
    every = Subsampled(module, frames).levels
    assert deepest.levels == every[-2:]
    assert Subsampled(module, frames, slice(2)).levels == every[:2]
    assert Subsampled(module, frames, slice(99)).levels == every
    with pytest.raises(UserError, match=r"did you mean 'network\.layer3\.0\.conv1'"):
        Subsampled(module, frames, ["network.layer3.0.conv"])


def test_a_network_that_does_not_subsample_or_cannot_be_followed_is_refused() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, 2)

        def forward(self, frames: Tensor) -> Tensor:
            return self.conv(frames) if frames.sum() > 0 else frames

    frames = torch.randn(1, 3, 8, 8)
    with pytest.raises(UserError, match="subsamples"):
        Subsampled(nn.Conv2d(3, 3, 3).eval(), frames)
    with pytest.raises(UserError, match="cannot be traced"):
        Subsampled(Branches().eval(), frames)


@pytest.mark.parametrize("strides", [(2, 2, 2), (2, 3), (4,)])
def test_each_state_has_one_way_to_it(strides: Sequence[int]) -> None:
    levels = [
        Level(("layer",), tuple((a, b) for a in range(s) for b in range(s)), (1, 1))
        for s in strides
    ]
    root: State = tuple((0, 0) for _ in levels)
    found: list[State] = [root]
    left: list[State] = [root]
    while left:
        state = left.pop()
        for child, level in children(state, levels):
            assert child[:level] == state[:level]
            assert not any(map(any, child[level + 1 :]))
            found.append(child)
            left.append(child)
    total = 1
    for stride in strides:
        total *= stride**2
    assert len(found) == len(set(found)) == total


@torch.no_grad()
def test_the_best_that_can_be_extended_is_extended() -> None:
    network, frames = _small()
    torch.manual_seed(1)
    told: dict[State, float] = {}

    def criterion(_: Sequence[int], __: Sequence[State], outputs: Sequence[Tensor]) -> list[float]:
        return [float(one.std()) for one in outputs]

    [found] = search(network, [frames], criterion, 40)
    assert found[0].state == network.origin
    left: dict[State, list[State]] = {}
    for looked in found:
        if told:
            best = max((s for s in left if left[s]), key=lambda state: told[state])
            assert left[best].pop(0) == looked.state
        told[looked.state] = looked.score
        left[looked.state] = [child for child, _ in children(looked.state, network.levels)]


def _alike(exams: Sequence[int], _: Sequence[State], __: Sequence[Tensor]) -> list[float]:
    return [0.0 for _ in exams]


@torch.no_grad()
def test_of_equals_the_one_that_was_found_first_is_extended() -> None:
    network, frames = _small()
    by_breadth = [network.origin]
    for state in by_breadth:
        by_breadth += [child for child, _ in children(state, network.levels)]
    [found] = search(network, [frames], _alike, 40)
    assert [one.state for one in found] == by_breadth[:40]


@torch.no_grad()
def test_of_small_maps_too_a_search_begins_with_the_network_to_the_last_bit() -> None:
    torch.manual_seed(0)
    module, frames = create("mobilenetv3_small_100", 28).eval().network, torch.randn(4, 3, 28, 28)
    network = Subsampled(module, frames[:1], method="forward_features")
    [[own, _]] = search(network, [frames], _alike, 2)
    assert torch.equal(own.output, module.forward_features(frames))  # pyright: ignore


@torch.no_grad()
def test_all_states_are_looked_at_where_the_budget_allows_and_each_exam_has_its_own_way() -> None:
    network, frames = _small()

    def criterion(
        exams: Sequence[int], _: Sequence[State], outputs: Sequence[Tensor]
    ) -> list[float]:
        return [float(one[0].sum()) * (-1) ** n for n, one in zip(exams, outputs, strict=True)]

    exams = [frames[:1], frames[:1], frames[1:6]]
    both = search(network, exams, criterion, 20)
    assert [one.state for one in both[0]] != [one.state for one in both[1]]
    for exam, found in zip(exams, both, strict=True):
        for one in found:
            torch.testing.assert_close(one.output, network(exam, one.state))
    every = search(network, exams, criterion, 1000)
    assert [len({one.state for one in found}) for found in every] == [64, 64, 64]
    assert [one.state for one in every[2]][:20] == [one.state for one in both[2]]


@torch.no_grad()
def test_a_search_holds_values_of_no_more_states_than_it_can_still_extend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, frames = _small()
    budget, run, held = 12, network.run, list[list[weakref.ref[Tensor]]]()
    alive: list[int] = []

    def watched(starts: Sequence[Start]) -> list[Passed]:
        alive.append(sum(any(value() is not None for value in state) for state in held))
        passed = run(starts)
        values = [value for one in passed for some in one.values.values() for value in some]
        held.append([weakref.ref(value) for value in values])
        return passed

    def deeper_first(
        _: Sequence[int], __: Sequence[State], outputs: Sequence[Tensor]
    ) -> list[float]:
        return [float(len(alive)) for _ in outputs]

    monkeypatch.setattr(network, "run", watched)
    search(network, [frames], deeper_first, budget)
    # And of the one whose last child is run.
    assert all(some <= budget - step + 1 for step, some in enumerate(alive)), alive
    assert alive[-1] == 1


@pytest.mark.parametrize("layers", [0, []])
def test_no_layers_are_none_of_a_network(layers: int | list[str]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Subsampled(nn.Sequential(nn.MaxPool2d(2)).eval(), torch.zeros(1, 1, 4, 4), layers)


def test_a_network_in_training_mode_is_refused_before_it_is_run() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.MaxPool2d(2)).eval()
    network[0].train()
    with pytest.raises(ValueError, match="training mode"):
        Subsampled(network, torch.zeros(1, 1, 4, 4))
    assert not network[0].num_batches_tracked


@pytest.mark.parametrize("state", [((2, 0),), ((0, -1),), (), ((0, 0), (0, 0))])
def test_a_state_of_another_network_is_refused(state: State) -> None:
    network = Subsampled(nn.Sequential(nn.MaxPool2d(2)).eval(), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="offset"):
        network(torch.zeros(1, 1, 4, 4), state)


def test_a_search_looks_once_at_least_and_may_have_nothing_to_look_at() -> None:
    network, frames = _small()
    with pytest.raises(ValueError, match="at least 1"):
        search(network, [frames], _alike, 0)
    assert search(network, [], _alike, 3) == []


def test_the_more_certain_a_state_is_the_more_it_weighs() -> None:
    found = by_entropy(torch.tensor([[0.0, 0.6931472], [0.5, 0.5]]))
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3], [0.5, 0.5]]))


def test_entropy_is_that_of_the_prediction() -> None:
    found = entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([0.6931472, 0.0]))


def test_maps_are_moved_back_by_what_they_are_off() -> None:
    columns = torch.arange(8.0).expand(1, 1, 6, 8)  # of the network itself: each pixel its column
    later = columns + 0.5
    [[[row, *_]]] = aligned(later, [(0.0, 0.5)])
    torch.testing.assert_close(row[1:], columns[0, 0, 0, 1:])
    rows = torch.arange(6.0)[:, None].expand(1, 1, 6, 8)
    found = aligned(rows + 1, [(1.0, 0.0)])
    torch.testing.assert_close(found[:, :, 1:], rows[:, :, 1:])


@torch.no_grad()
def test_a_state_that_is_moved_back_lies_on_the_network_itself() -> None:
    """A network that only thins its image: what it shows at a position is where that is."""
    module = nn.Sequential(nn.MaxPool2d(1, 2), nn.MaxPool2d(1, 2)).eval()
    image = torch.arange(64.0).expand(1, 1, 64, 64).clone()
    network = Subsampled(module, image)
    for state in [((0, 1), (0, 0)), ((0, 0), (0, 1)), ((1, 1), (0, 1))]:
        back = aligned(network(image, state), [displacement(network, state)])
        torch.testing.assert_close(back[..., 1:-1], module(image)[..., 1:-1])


def test_attention_begins_as_the_mean_and_learns() -> None:
    maps = torch.randn(5, 2, 4, 8)
    attention = StateAttention(8, 16)
    torch.testing.assert_close(attention(maps), maps.mean(0))
    attention(maps).square().sum().backward()
    assert attention.query.weight.grad is not None
    assert attention.query.weight.grad.abs().sum() > 0

"""Which states to look at: best first, with a budget of forward passes for each exam.

The states are a tree: a child differs from its parent at one level, deeper than all at which the
parent differs from the network itself. So every state has one way to it, each child resumes from
just before that level, and what lies deep, which costs least, is looked at first. A state is
extended by one child at a time, and after each the best state that has children left is extended
(best-first search with partial expansion, Yoshizumi, Miura and Ishida, AAAI 2000).
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from keyslice.models.discarded.network import Level, Start, State, Subsampled, Values
from keyslice.models.discarded.phase import Offset

Criterion = Callable[[Sequence[int], Sequence[Tensor]], Sequence[float]]
"""Of exams, by number, and the network's output (k,…) for a state of each: how promising it is."""


@dataclass(frozen=True)
class Looked:
    """A state of an exam that has been run.

    Attributes:
        state: its offsets.
        output: (k,…), the network's, for each of its frames.
        score: by the criterion; the higher, the earlier it is extended.
    """

    state: State
    output: Tensor
    score: float


def search(
    network: Subsampled, exams: Sequence[Tensor], criterion: Criterion, budget: int
) -> list[list[Looked]]:
    """Run each exam at up to `budget` states, the network itself first; all exams go together.

    Args:
        network: that is searched.
        exams: input for it, (k,…) of each exam; one state is for all its frames.
        criterion: see `Criterion`.
        budget: of states, at least 1; where there are fewer, all of them.

    Returns:
        Of each exam what was looked at, in this order.
    """
    fronts = [_Front(network.levels) for _ in exams]
    starts = [Start(network.origin, 0, (exam,)) for exam in exams]
    parents: list[_Node | None] = [None for _ in exams]
    active = [*range(len(exams))]
    for _ in range(budget):
        passed = network.run(starts)
        scores = criterion(active, [one.output for one in passed])
        for n, start, parent, one, score in zip(
            active, starts, parents, passed, scores, strict=True
        ):
            values = {0: (exams[n],)} if parent is None else dict(parent.values)
            looked = Looked(start.state, one.output, float(score))
            fronts[n].add(looked, values | dict(one.values))
        following = [(n, chosen) for n in active if (chosen := fronts[n].next())]
        if not following:
            break
        active = [n for n, _ in following]
        parents = [parent for _, (parent, _, _) in following]
        starts = []
        for _, (parent, state, level) in following:
            cut = network.cut(level)
            starts.append(Start(state, cut, parent.values[cut]))
    return [front.looked for front in fronts]


def children(state: State, levels: Sequence[Level]) -> Iterator[tuple[State, int]]:
    """The states below one, and the level at which each differs from it; the deepest first."""
    moved = [level for level, offset in enumerate(state) if any(offset)]
    for level in reversed(range(moved[-1] + 1 if moved else 0, len(levels))):
        for offset in _spread(levels[level].offsets)[1:]:
            yield (*state[:level], offset, *state[level + 1 :]), level


@cache
def _spread(offsets: tuple[Offset, ...]) -> list[Offset]:
    """(0,0), then each as far as can be from those before it; a stride's phases are a torus."""
    rows, columns = (max(axis) + 1 for axis in zip(*offsets, strict=True))

    def apart(one: Offset, other: Offset) -> int:
        down, across = abs(one[0] - other[0]), abs(one[1] - other[1])
        return min(down, rows - down) ** 2 + min(across, columns - across) ** 2

    found, nearest = [(0, 0)], {offset: apart(offset, (0, 0)) for offset in offsets[1:]}
    while nearest:
        farthest = max(nearest, key=lambda offset: nearest[offset])
        found.append(farthest)
        del nearest[farthest]
        nearest = {one: min(far, apart(one, farthest)) for one, far in nearest.items()}
    return found


@dataclass(order=True)
class _Node:
    """A state that has been run and has children left; the best is the least."""

    rank: tuple[float, int]
    left: Iterator[tuple[State, int]] = field(compare=False)
    values: dict[int, Values] = field(compare=False, repr=False)


class _Front:
    """Of one exam: what was looked at, and what of it can be extended."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._levels = levels
        self._open: list[_Node] = []
        self.looked: list[Looked] = []

    def add(self, looked: Looked, values: dict[int, Values]) -> None:
        rank = -looked.score, len(self.looked)
        self.looked.append(looked)
        heapq.heappush(self._open, _Node(rank, children(looked.state, self._levels), values))

    def next(self) -> tuple[_Node, State, int] | None:
        """The best state that can be extended, the child, and the level where that differs."""
        while self._open:
            if child := next(self._open[0].left, None):
                return (self._open[0], *child)
            heapq.heappop(self._open)
        return None


def entropy(probabilities: Tensor) -> Tensor:
    """Of class probabilities (N,classes), in nats: (N,)."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)

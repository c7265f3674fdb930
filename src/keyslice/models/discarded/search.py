"""Which states to look at: best first, with a budget of forward passes for each exam.

The states are a tree: a child differs from its parent at one level, deeper than all at which the
parent differs from the network itself. So every state has one way to it, each child resumes from
just before that level, and what lies deep, which costs least, is looked at first. A state is
extended by one child at a time, and after each the best state that has children left is extended
(best-first search with partial expansion, Yoshizumi, Miura and Ishida, AAAI 2000).
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from keyslice.models.discarded.network import Level, Start, State, Subsampled, Values
from keyslice.models.discarded.phase import Offset

Criterion = Callable[[Sequence[int], Sequence[State], Sequence[Tensor]], Sequence[float]]
"""Of exams, by number, a state of each, and the network's output (k,…) for it: how promising that
is."""


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

    Raises:
        ValueError: the budget is less than 1.
    """
    if budget < 1:
        raise ValueError(f"a budget is at least 1, got {budget}")
    fronts = [_Front(network) for _ in exams]
    steps = {
        n: _Step(Start(network.origin, 0, (exam,)), {0: (exam,)}) for n, exam in enumerate(exams)
    }
    for left in reversed(range(budget)):
        if not steps:
            break
        _look(network, fronts, steps, criterion, left)
        steps = {n: step for n in steps if (step := fronts[n].next())}
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


@dataclass(frozen=True)
class _Step:
    """A run to be made, and the values at cuts that are known already."""

    start: Start
    known: dict[int, Values] = field(repr=False)


def _look(
    network: Subsampled,
    fronts: Sequence["_Front"],
    steps: Mapping[int, _Step],
    criterion: Criterion,
    left: int,
) -> None:
    """Make a step of each exam, by number; `left` are to come after it."""
    passed = network.run([step.start for step in steps.values()])
    states = [step.start.state for step in steps.values()]
    scores = criterion([*steps], states, [one.output for one in passed])
    for (n, step), one, score in zip(steps.items(), passed, scores, strict=True):
        looked = Looked(step.start.state, one.output, float(score))
        fronts[n].add(looked, step.known | dict(one.values), left)


@dataclass(order=True)
class _Node:
    """A state that has been run and has children left; the best is the least."""

    rank: tuple[float, int]
    left: deque[tuple[State, int]] = field(compare=False)
    values: dict[int, Values] = field(compare=False, repr=False)


class _Front:
    """Of one exam: what was looked at, and what of it can be extended.

    It holds no more than that: values at cuts from which a child begins, of as many states as there
    are looks to come.
    """

    def __init__(self, network: Subsampled) -> None:
        self._network = network
        self._open: list[_Node] = []
        self.looked: list[Looked] = []

    def add(self, looked: Looked, values: dict[int, Values], left: int) -> None:
        rank = -looked.score, len(self.looked)
        self.looked.append(looked)
        if below := deque(children(looked.state, self._network.levels)):
            cuts = {self._network.cut(level) for _, level in below}
            values = {cut: value for cut, value in values.items() if cut in cuts}
            self._open.append(_Node(rank, below, values))
        self._open = heapq.nsmallest(left, self._open)  # in order: a heap

    def next(self) -> _Step | None:
        """From the best state that can be extended to its next child."""
        if not self._open:
            return None
        best = self._open[0]
        state, level = best.left.popleft()
        if not best.left:
            heapq.heappop(self._open)
        cut = self._network.cut(level)
        return _Step(Start(state, cut, best.values[cut]), best.values)


def entropy(probabilities: Tensor) -> Tensor:
    """Of class probabilities (N,classes), in nats: (N,)."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)

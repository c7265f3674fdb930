"""A network whose subsampling layers may be at any phase, run from the image or from one of them.

It is traced (torch.fx) down to its subsampling layers and, where that does, no further: whatever
holds none is called as it is. Where such a layer begins, the values that the rest needs are a cut;
a run that differs from another from there on begins with them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from keyslice.errors import UserError, did_you_mean
from keyslice.models import small_maps
from keyslice.models.discarded.graph import UnsuitedError, sizes, traced
from keyslice.models.discarded.phase import Border, Offset, Phases, may_shift

State = tuple[Offset, ...]
"""An offset for each level."""
Values = tuple[Tensor, ...]
"""What the nodes from a cut on need of those before it, out of its lists; each (N,…)."""


@dataclass(frozen=True)
class Level:
    """Subsampling layers side by side, as a block's convolution and its shortcut: one offset is
    for all of them, else the maps that they add would lie apart.

    Attributes:
        layers: their names.
        offsets: that they can be at, (0,0) first.
        scale: pixels of the image from one pixel of the maps that they read to the next; rows,
            columns.
    """

    layers: tuple[str, ...]
    offsets: tuple[Offset, ...]
    scale: tuple[int, int]


@dataclass(frozen=True)
class Start:
    """Of the rows (frames) of one exam.

    Args:
        state: to run at.
        cut: to run from; 0 is the image, 1 + n the n-th level.
        values: there; at 0 the image alone.
    """

    state: State
    cut: int
    values: Values


@dataclass(frozen=True)
class Passed:
    """A run that has come to its end: the network's output, and the values at cuts on its way."""

    output: Tensor
    values: Mapping[int, Values] = field(repr=False)


class Subsampled:
    """A network, and the phases of its subsampling layers.

    Args:
        module: in evaluation mode, and left as it is.
        example: input for it, (1,…); of the size of later ones.
        layers: which subsampling layers are to have an offset, those beside it with each: a slice
            of the levels, or so many of the deepest; or layers by name. None: all of them.
        border: what layers at an offset meet at the border of their maps; see `Phases`.
        method: of the module, which maps (N,…) to (N,…).
        chunk: rows that go through the network together from the image on. Of runs that begin
            deeper as many go together as read as much. None: all.

    Attributes:
        levels: in the order in which the network has them.
        scale: pixels of the image from one pixel of the last map to the next; rows, columns.

    Raises:
        UnsuitedError: it has no such layer, or cannot be traced to what it gives itself.
        UserError: it has none of such a name.
        ValueError: it is in training mode, or no layers are asked for.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        layers: int | slice | Iterable[str] | None = None,
        *,
        border: Border = "zeros",
        method: str = "forward",
        chunk: int | None = None,
    ) -> None:
        if any(part.training for part in module.modules()):
            raise ValueError("the network is in training mode: call its eval() first")
        if isinstance(layers, int):
            if layers < 1:
                raise ValueError(f"layers: at least one, or None for all of them; got {layers}")
            layers = slice(-layers, None)
        every = module.named_modules(remove_duplicate=False)
        self._phases = {name: Phases(layer, border) for name, layer in every if may_shift(layer)}
        if not self._phases:
            raise UnsuitedError("no layer of the network subsamples")
        self._module = module
        graph, shapes = traced(module, method, self._phases, example)
        self._graph, self._nodes = graph, [*graph.nodes]
        self._sizes = sizes(self._nodes)
        found, self.scale = self._found(shapes, example.shape[-2:])
        self.levels = _chosen([*found], layers)
        if not self.levels:
            raise ValueError(f"layers: at least one, or None for all of them; got {layers!r}")
        self._level = {node: n for n, one in enumerate(self.levels) for node in found[one]}
        places = {node: place for place, node in enumerate(self._nodes)}
        first = [min(places[node] for node in found[level]) for level in self.levels]
        self._edges = [0, *first, len(self._nodes)]
        self._needed = [self._crossing(places, edge) for edge in self._edges]
        self._open, self._writes, self._nested = self._probed(example)
        self._most = math.inf if chunk is None else chunk * example[0].numel()

    @property
    def states(self) -> int:
        """How many there are."""
        return math.prod(len(level.offsets) for level in self.levels)

    @property
    def origin(self) -> State:
        """The state that is the network itself."""
        return tuple((0, 0) for _ in self.levels)

    def __call__(self, inputs: Tensor, state: State) -> Tensor:
        """The network's output (N,…) at one state."""
        return self.run([Start(state, 0, (inputs,))])[0].output

    def cut(self, level: int) -> int:
        """From which a run begins that differs from another at a level: the nearest before it."""
        return max(cut for cut in range(level + 2) if self._open[cut])

    def run(self, starts: Sequence[Start]) -> list[Passed]:
        """Runs to the end, those of a chunk together: each joins at its own cut.

        Returns:
            One for each, in their order.

        Raises:
            ValueError: a state is none of this network's.
        """
        for start in starts:
            self._check(start.state)
        passed: list[Passed] = []
        for part in self._chunks(starts):
            # The network itself is what timm's gives for the same rows, to the last bit; other
            # states are nobody's.
            other = all(start.state != self.origin for start in part)
            with small_maps.within() if other else nullcontext():
                passed += self._run(part)
        return passed

    def _chunks(self, starts: Sequence[Start]) -> Iterator[list[Start]]:
        """By the values that they read where they begin; one that reads more goes alone."""
        part, read = list[Start](), 0
        for start in starts:
            own = sum(values.numel() for values in start.values)
            if part and read + own > self._most:
                yield part
                part, read = [], 0
            part.append(start)
            read += own
        if part:
            yield part

    def _check(self, state: State) -> None:
        if len(state) != len(self.levels):
            raise ValueError(f"a state has {len(self.levels)} offsets here, got {len(state)}")
        for offset, level in zip(state, self.levels, strict=True):
            if offset not in level.offsets:
                raise ValueError(f"{offset} is no offset of {level.layers[0]}")

    def _run(self, starts: Sequence[Start]) -> list[Passed]:
        counts = [len(start.values[0]) for start in starts]
        joined: list[int] = []
        values: list[Any] = []
        kept: list[dict[int, Values]] = [{} for _ in starts]
        for cut in range(min(start.cut for start in starts), len(self._edges) - 1):
            if self._open[cut]:
                new = [n for n, start in enumerate(starts) if start.cut == cut]
                parts = [pytree.tree_leaves(values)] * bool(joined)
                parts += [[*starts[n].values] for n in new]
                joined += new
                leaves = [_joined(each) for each in zip(*parts, strict=True)]
                if self._writes[cut]:
                    leaves = [leaf.clone() for leaf in leaves]
                values = pytree.tree_unflatten(leaves, self._nested[cut])
            offsets = {
                node: [starts[n].state[level] for n in joined for _ in range(counts[n])]
                for node, level in self._level.items()
            }
            values = self._segment(cut, values, offsets)
            if cut + 2 < len(self._edges) and self._open[cut + 1]:
                rows = [counts[n] for n in joined]
                split = [leaf.split(rows) for leaf in pytree.tree_leaves(values)]
                for place, n in enumerate(joined):
                    kept[n][cut + 1] = tuple(each[place] for each in split)
        output = values[0]
        outputs = dict(zip(joined, output.split([counts[n] for n in joined]), strict=True))
        return [Passed(outputs[n], kept[n]) for n in range(len(starts))]

    def _segment(
        self, cut: int, values: Sequence[Any], offsets: Mapping[fx.Node, Sequence[Offset]]
    ) -> list[Any]:
        """From a cut to the next: what is needed there, in its lists."""
        known: dict[fx.Node, Any] = dict(zip(self._needed[cut], values, strict=True))
        for node in self._nodes[self._edges[cut] : self._edges[cut + 1]]:
            if node.op == "output":
                return [self._value(node.all_input_nodes[0], known, offsets)]
            if node.op not in ("placeholder", "get_attr") and node not in self._sizes:
                known[node] = self._called(node, known, offsets)
        return [self._value(node, known, offsets) for node in self._needed[cut + 1]]

    def _value(
        self,
        node: fx.Node,
        known: Mapping[fx.Node, Any],
        offsets: Mapping[fx.Node, Sequence[Offset]],
    ) -> Any:
        if node in known:
            return known[node]
        if node in self._sizes:
            return self._called(node, known, offsets)
        # What no cut has: an argument that is left out, or a parameter.
        if node.op == "placeholder":
            return node.args[0] if node.args else None
        return _attribute(self._module, str(node.target))

    def _called(
        self,
        node: fx.Node,
        known: Mapping[fx.Node, Any],
        offsets: Mapping[fx.Node, Sequence[Offset]],
    ) -> Any:
        def value(one: fx.Node) -> Any:
            return self._value(one, known, offsets)

        both: Any = map_arg((node.args, node.kwargs), value)
        args, kwargs = both
        name = str(node.target)
        if node.op == "call_module":
            if node in offsets:
                return self._phases[name](args[0], offsets[node])
            return self._module.get_submodule(name)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _found(
        self, shapes: Mapping[fx.Node, torch.Size], image: torch.Size
    ) -> tuple[dict[Level, list[fx.Node]], tuple[int, int]]:
        """Its levels, each with where its layers are called, and the scale of its output."""
        # Finer and coarser maps may come together (attention to fewer keys, maps brought up again,
        # a class token): what that makes has the scale of one of them, and its size tells which.
        scales: dict[fx.Node, set[tuple[int, int]]] = {}
        beside: dict[tuple[tuple[int, int], tuple[int, int]], list[fx.Node]] = {}

        def fitting(node: fx.Node, places: Iterable[int]) -> tuple[int, int]:
            def off(scale: tuple[int, int]) -> float:
                expected = image.numel() / (scale[0] * scale[1])
                return min((abs(math.log(expected / n)) for n in places), default=0.0)

            return min(sorted(scales[node], reverse=True), key=off)

        for node in self._nodes:
            before = [scales[one] for one in node.all_input_nodes if one in scales]
            if (not before and scales) or node in self._sizes:
                continue
            scales[node] = set().union(*before) or {(1, 1)}
            phases = self._phases.get(str(node.target)) if node.op == "call_module" else None
            if phases is not None:
                # They may be the maps of heads, or of windows.
                count, _, *size = shapes[node.all_input_nodes[0]]
                scale = fitting(node, [math.prod(size), count * math.prod(size)])
                rows, columns = phases.stride
                after = scale[0] * rows, scale[1] * columns
                scales[node] = {after}
                beside.setdefault((scale, after), []).append(node)
        levels = {}
        for (scale, _), nodes in beside.items():
            names = tuple(dict.fromkeys(str(node.target) for node in nodes))
            levels[Level(names, tuple(self._phases[names[0]].offsets), scale)] = nodes
        last = shapes[self._nodes[-1]]
        places = {3: [*last[1:2]], 4: [math.prod(last[1:3]), math.prod(last[2:])]}
        return levels, fitting(self._nodes[-1], places.get(len(last), []))

    def _crossing(self, places: Mapping[fx.Node, int], edge: int) -> list[fx.Node]:
        """Nodes before an edge that those from it on need, but for those that are always there.

        A size is asked for again when it is needed, since it counts the rows of a run: what it is
        the size of is needed then.
        """
        inputs, *left_out = [node for node in self._nodes if node.op == "placeholder"]
        if edge == 0:
            return [inputs]
        needed: set[fx.Node] = set()
        users = self._nodes[edge:]
        while users:
            for node in users.pop().all_input_nodes:
                if node in self._sizes:
                    users.append(node)
                elif places[node] < edge and node.op != "get_attr" and node not in left_out:
                    needed.add(node)
        return sorted(needed, key=lambda node: places[node])

    def _probed(self, example: Tensor) -> tuple[list[bool], list[bool], list[pytree.TreeSpec]]:
        """Of each cut whether a run may begin there, whether what follows writes into it, and the
        lists that it has.

        It may where all that is needed are values of each input for itself, and none of them is
        written into that shares its memory with another.
        """
        rows = 5  # no size that is likely to be met elsewhere
        offsets = {node: [(0, 0)] * rows for node in self._level}
        every: list[list[Any]] = []
        nested: list[pytree.TreeSpec] = []
        versions: list[list[int]] = []
        # Tensors of inference mode do not count how often they were written into.
        with torch.inference_mode(False), torch.no_grad():
            values: list[Any] = [example.new_zeros((rows, *example.shape[1:]))]
            for cut in range(len(self._edges) - 1):
                leaves, lists = pytree.tree_flatten(values)
                every.append(leaves)
                nested.append(lists)
                versions.append(_versions(leaves))
                values = self._segment(cut, values, offsets)
            writes = [
                _versions(leaves) != before for leaves, before in zip(every, versions, strict=True)
            ]
        free = [
            all(isinstance(leaf, Tensor) and leaf.shape[:1] == (rows,) for leaf in leaves)
            and not (written and _share_memory(leaves))
            for leaves, written in zip(every, writes, strict=True)
        ]
        return free, writes, nested


def _versions(values: Sequence[Any]) -> list[int]:
    return [value._version for value in values if isinstance(value, Tensor)]


def _share_memory(values: Sequence[Tensor]) -> bool:
    return len({value.untyped_storage().data_ptr() for value in values}) < len(values)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _chosen(levels: list[Level], layers: slice | Iterable[str] | None) -> list[Level]:
    if layers is None:
        return levels
    if isinstance(layers, slice):
        return levels[layers]
    wanted = {layers} if isinstance(layers, str) else set(layers)
    known = {name for level in levels for name in level.layers}
    for name in sorted(wanted - known):
        raise UserError(f"no subsampling layer is named {name!r}", remedy=did_you_mean(name, known))
    return [level for level in levels if wanted.intersection(level.layers)]


def _attribute(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found

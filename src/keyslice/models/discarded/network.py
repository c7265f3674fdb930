"""A network whose subsampling layers may be at any phase, run from the image or from one of them.

It is traced (torch.fx) down to its subsampling layers and no further: whatever holds none is called
as it is. Where such a layer begins, the values that the rest needs are a cut; a run that differs
from another from there on begins with them.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models import get_notrace_functions  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from keyslice.errors import UserError, did_you_mean
from keyslice.models import small_maps
from keyslice.models.discarded.phase import Offset, Phases, may_shift

State = tuple[Offset, ...]
"""An offset for each level."""
Values = tuple[Tensor, ...]
"""What the nodes from a cut on need of those before it; each (N,…)."""


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
        module: maps (N,…) to (N,…); in evaluation mode, and left as it is.
        example: input for it, (1,…); of the size of later ones.
        layers: which subsampling layers are to have an offset, those beside it with each: so many
            of the deepest levels, or layers by name. None: all of them.

    Attributes:
        levels: in the order in which the network has them.
        scale: pixels of the image from one pixel of the last map to the next; rows, columns.

    Raises:
        UserError: it has no such layer, or cannot be traced.
    """

    def __init__(
        self, module: nn.Module, example: Tensor, layers: int | Iterable[str] | None = None
    ) -> None:
        self._phases = {n: Phases(m) for n, m in module.named_modules() if may_shift(m)}
        if not self._phases:
            raise UserError("no layer of the network subsamples")
        self._module, self._graph = module, _traced(module, self._phases)
        self._nodes = [*self._graph.nodes]
        found, self.scale = self._found()
        self.levels = _chosen(found, layers)
        self._level = {name: n for n, one in enumerate(self.levels) for name in one.layers}
        places = {node: place for place, node in enumerate(self._nodes)}
        first = [
            min(places[node] for node in self._nodes if node.target in level.layers)
            for level in self.levels
        ]
        self._edges = [0, *first, len(self._nodes)]
        self._needed = [self._crossing(places, edge) for edge in self._edges]
        self._open, self._writes = self._probed(example)

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
        """Runs to the end, all together: each joins at its own cut.

        Returns:
            One for each, in their order.
        """
        # The network itself is what timm's gives, to the last bit; other states are nobody's.
        other = all(start.state != self.origin for start in starts)
        with small_maps.within() if other else nullcontext():
            return self._run(starts)

    def _run(self, starts: Sequence[Start]) -> list[Passed]:
        counts = [len(start.values[0]) for start in starts]
        joined: list[int] = []
        values: Values = tuple[Tensor, ...]()
        kept: list[dict[int, Values]] = [{} for _ in starts]
        for cut in range(min(start.cut for start in starts), len(self._edges) - 1):
            if self._open[cut]:
                new = [n for n, start in enumerate(starts) if start.cut == cut]
                parts = [values] * bool(joined) + [starts[n].values for n in new]
                joined += new
                values = tuple(map(_joined, zip(*parts, strict=True)))
                if self._writes[cut]:
                    values = tuple(value.clone() for value in values)
            offsets = {
                name: [starts[n].state[level] for n in joined for _ in range(counts[n])]
                for name, level in self._level.items()
            }
            values = self._segment(cut, values, offsets)
            if cut + 2 < len(self._edges) and self._open[cut + 1]:
                split = [value.split([counts[n] for n in joined]) for value in values]
                for place, n in enumerate(joined):
                    kept[n][cut + 1] = tuple(each[place] for each in split)
        output = values[0]
        outputs = dict(zip(joined, output.split([counts[n] for n in joined]), strict=True))
        return [Passed(outputs[n], kept[n]) for n in range(len(starts))]

    def _segment(
        self, cut: int, values: Values, offsets: Mapping[str, Sequence[Offset]]
    ) -> tuple[Any, ...]:
        """From a cut to the next: what is needed there."""
        known: dict[fx.Node, Any] = dict(zip(self._needed[cut], values, strict=True))

        def value(node: fx.Node) -> Any:
            if node in known:
                return known[node]
            # What no cut has: an argument that is left out, or a parameter.
            if node.op == "placeholder":
                return node.args[0] if node.args else None
            return _attribute(self._module, str(node.target))

        for node in self._nodes[self._edges[cut] : self._edges[cut + 1]]:
            if node.op in ("placeholder", "get_attr"):
                continue
            args, kwargs = map_arg(node.args, value), map_arg(node.kwargs, value)
            if node.op == "output":
                return (args[0],)
            known[node] = self._called(node, args, kwargs, offsets)
        return tuple(value(node) for node in self._needed[cut + 1])

    def _called(
        self,
        node: fx.Node,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        offsets: Mapping[str, Sequence[Offset]],
    ) -> Any:
        name = str(node.target)
        if node.op == "call_module":
            if name in offsets:
                return self._phases[name](args[0], offsets[name])
            return self._module.get_submodule(name)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _found(self) -> tuple[list[Level], tuple[int, int]]:
        """Its levels, and the scale of its output."""
        scales: dict[fx.Node, tuple[int, int]] = {}
        beside: dict[tuple[tuple[int, int], tuple[int, int]], list[str]] = {}
        for node in self._nodes:
            before = [scales[one] for one in node.all_input_nodes] or [(1, 1)]
            scale = max(rows for rows, _ in before), max(columns for _, columns in before)
            phases = self._phases.get(str(node.target)) if node.op == "call_module" else None
            scales[node] = scale
            if phases is not None:
                rows, columns = phases.stride
                scales[node] = scale[0] * rows, scale[1] * columns
                names = beside.setdefault((scale, scales[node]), [])
                names += [str(node.target)] * (str(node.target) not in names)
        levels = [
            Level(tuple(names), tuple(self._phases[names[0]].offsets), scale)
            for (scale, _), names in beside.items()
        ]
        return levels, scales[self._nodes[-1]]

    def _crossing(self, places: Mapping[fx.Node, int], edge: int) -> list[fx.Node]:
        """Nodes before an edge that those from it on need, but for those that are always there."""
        inputs, *left_out = [node for node in self._nodes if node.op == "placeholder"]
        if edge == 0:
            return [inputs]
        return [
            node
            for node in self._nodes[:edge]
            if node.op != "get_attr"
            and node not in left_out
            and any(places[user] >= edge for user in node.users)
        ]

    def _probed(self, example: Tensor) -> tuple[list[bool], list[bool]]:
        """Of each cut whether a run may begin there, and whether what follows writes into it.

        It may where all that is needed are values of each input for itself, and none of them is
        written into that shares its memory with another.
        """
        rows = 3
        offsets = {name: [(0, 0)] * rows for name in self._level}
        every: list[tuple[Any, ...]] = []
        versions: list[list[int]] = []
        # Tensors of inference mode do not count how often they were written into.
        with torch.inference_mode(False), torch.no_grad():
            values: tuple[Any, ...] = (example.new_zeros((rows, *example.shape[1:])),)
            for cut in range(len(self._edges) - 1):
                every.append(values)
                versions.append(_versions(values))
                values = self._segment(cut, values, offsets)
            writes = [
                _versions(values) != before for values, before in zip(every, versions, strict=True)
            ]
        free = [
            all(isinstance(value, Tensor) and value.shape[:1] == (rows,) for value in values)
            and not (written and _share_memory(values))
            for values, written in zip(every, writes, strict=True)
        ]
        return free, writes


def _versions(values: Sequence[Any]) -> list[int]:
    return [value._version for value in values if isinstance(value, Tensor)]


def _share_memory(values: Sequence[Tensor]) -> bool:
    return len({value.untyped_storage().data_ptr() for value in values}) < len(values)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Tracer(fx.Tracer):
    """Into modules that hold a subsampling layer, and into no other."""

    def __init__(self, layers: Iterable[str]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        parts = [name.split(".") for name in layers]
        self._opened = {".".join(part[:end]) for part in parts for end in range(1, len(part))}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._opened


def _traced(module: nn.Module, layers: Iterable[str]) -> fx.Graph:
    try:
        return _Tracer(layers).trace(module)
    except Exception as error:  # whatever its code does with a value that is none
        told = str(error).splitlines()
        raise UserError(
            f"the network cannot be traced ({told[0] if told else type(error).__name__})",
            rule="what lies around its subsampling layers is code that torch.fx can follow",
        ) from error


def _chosen(levels: list[Level], layers: int | Iterable[str] | None) -> list[Level]:
    if layers is None:
        return levels
    if isinstance(layers, int):
        return levels[-layers:]
    wanted, known = set(layers), {name for level in levels for name in level.layers}
    for name in sorted(wanted - known):
        raise UserError(f"no subsampling layer is named {name!r}", remedy=did_you_mean(name, known))
    return [level for level in levels if wanted.intersection(level.layers)]


def _attribute(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found

"""A network as a graph (torch.fx) that is opened as far as its subsampling layers need it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.models import (
    get_notrace_functions,  # pyright: ignore[reportAttributeAccessIssue]
    get_notrace_modules,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch import Tensor, fx, nn

from keyslice.errors import UserError


class UnsuitedError(UserError):
    """Of this network no layer can be at another phase."""


def traced(
    module: nn.Module, method: str, layers: Iterable[str], example: Tensor
) -> tuple[fx.Graph, Mapping[fx.Node, torch.Size]]:
    """The graph of a module, which has been seen to give what the module gives, and the shapes of
    its values.

    Raises:
        UnsuitedError: there is none.

    Modules that hand lists to each other look at them: in such a network all are traced into.
    """
    told = ""
    with torch.inference_mode(False), torch.no_grad():
        probe = torch.linspace(-1, 1, example.numel()).to(example).view(example.shape)
        own = getattr(module, method)(probe)
        for deep in (False, True):
            try:
                graph = _Tracer(method, layers, deep).trace(module)
                measured = _Measured(module, graph)
                found = measured.run(probe)
            except Exception as error:  # whatever its code does with a value that is none
                told = told or (str(error).splitlines() or [type(error).__name__])[0]
                continue
            if isinstance(own, Tensor) and _same(found, own):
                return graph, measured.shapes
            told = told or "its code asks for the type of a value"
    raise UnsuitedError(
        f"the network cannot be traced ({told})",
        rule="torch.fx has to follow the code around its subsampling layers to one tensor",
    )


def sizes(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Of nodes those that ask for the size of a value, or reckon with sizes alone."""
    found: set[fx.Node] = set()
    for node in nodes:
        asked = node.args[1] if node.target is getattr else node.target
        before = node.all_input_nodes
        reckons = getattr(node.target, "__module__", "") == "_operator"
        if asked in ("shape", "size", "dim") or (reckons and before and found.issuperset(before)):
            found.add(node)
    return found


class _Tracer(fx.Tracer):
    """Into modules that hold a subsampling layer and, unless `deep`, into no other."""

    def __init__(self, method: str, layers: Iterable[str], deep: bool) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.traced_func_name = method
        self._layers, self._deep = {*layers}, deep
        parts = [name.split(".") for name in self._layers]
        self._opened = {".".join(part[:end]) for part in parts for end in range(1, len(part))}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self._opened:
            return False
        if not self._deep or module_qualified_name in self._layers:
            return True
        whole = isinstance(m, tuple(get_notrace_modules()))
        return whole or super().is_leaf_module(m, module_qualified_name)


class _Measured(fx.Interpreter):
    """A run that keeps the shape of each value (1,…)."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.shapes: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            self.shapes[n] = found.shape
        return found


def _same(found: Any, own: Tensor) -> bool:
    """But for rounding."""
    if not isinstance(found, Tensor) or found.shape != own.shape:
        return False
    atol = 1e-3 * float(own.nan_to_num().abs().max())
    return torch.allclose(found, own, rtol=1e-3, atol=atol, equal_nan=True)

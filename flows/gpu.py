"""The GPUs that torch sees, without importing torch, and who trains on which."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from keyslice import versioning
from keyslice.config import Workspace

SIGNS = (
    "dev/nvidia*",
    "dev/nvhost*",
    "dev/kfd",
    "dev/dxg",
    "proc/driver/nvidia",
    "sys/bus/pci/drivers/amdgpu/0*",
)
"""What a Linux has any of where a GPU's driver is at work: Nvidia's (boards and modules), AMD's,
and that of Windows for what runs within it."""
NVIDIA = "0x10de"
"""The maker of a PCI device, whose driver may be loaded only once it is asked for."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process may use, with commas between; torch for AMD's heeds it, too."""
_ASK_TORCH = (
    sys.executable,
    "-c",
    "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)",
)


def devices(workspace: Workspace) -> tuple[str, ...]:
    """Names of the GPUs that a training with `device: auto` can use, as VISIBLE has them.

    Asked in a process, as torch takes seconds.
    """
    if sys.platform == "linux" and not suspected():
        return ()
    last = "".join(versioning.run(_ASK_TORCH, cwd=workspace.root).lines[-1:])
    number = int(last) if last.isdecimal() else 0
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named or map(str, range(number)))[:number]


def suspected(root: Path = Path("/")) -> bool:
    """Whether anything below `root` speaks for a GPU that torch could use."""
    if any(any(root.glob(sign)) for sign in SIGNS):
        return True
    makers = root.glob("sys/bus/pci/devices/*/vendor")
    return any(file.read_text(encoding="ascii").strip() == NVIDIA for file in makers)


class _Lender:
    """Lends the GPU that the fewest have."""

    def __init__(self, names: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._lent = dict.fromkeys(names, 0)

    @contextmanager
    def lend(self) -> Iterator[str]:
        with self._lock:
            name = min(self._lent, key=lambda name: self._lent[name])
            self._lent[name] += 1
        try:
            yield name
        finally:
            with self._lock:
                self._lent[name] -= 1


_lender: ContextVar[_Lender | None] = ContextVar("lender", default=None)


@contextmanager
def lending(names: Sequence[str]) -> Iterator[None]:
    """Lend these GPUs for as long as the block runs, to all threads in a copy of its context.

    A single one, or none, is left to torch.
    """
    token = _lender.set(_Lender(names) if len(names) > 1 else None)
    try:
        yield
    finally:
        _lender.reset(token)


@contextmanager
def lent(stage: str) -> Iterator[dict[str, str]]:
    """What the environment of a stage says of the GPU that is its own meanwhile; empty: nothing."""
    lender = _lender.get()
    if lender is None or not stage.startswith(("train@", "evaluate@")):
        yield {}
        return
    with lender.lend() as name:
        yield {VISIBLE: name}

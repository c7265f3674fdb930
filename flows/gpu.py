"""The GPUs that torch sees, without importing torch, and who trains on which."""

import math
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout

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
POLL_SECONDS = 1.0
"""From one look for a GPU that is free to the next."""
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
    """Lends GPUs to whichever process of a workspace asks, by locks: one that ends gives back.

    Args:
        workspace: whose state/locks holds them.
        names: of the GPUs.
        share: how many may have one at a time.
    """

    def __init__(self, workspace: Workspace, names: Sequence[str], share: int) -> None:
        # Each GPU once before any of them twice.
        slots = product(range(share), names)
        self._slots = [(name, workspace.lock(_slot(name, number))) for number, name in slots]
        workspace.lock("gpu").parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lend(self) -> Iterator[str]:
        name, guard = self._taken()
        try:
            yield name
        finally:
            guard.release()

    def _taken(self) -> tuple[str, FileLock]:
        while True:
            for name, path in self._slots:
                guard = FileLock(path)
                with suppress(Timeout):
                    guard.acquire(timeout=0)
                    return name, guard
            versioning.check_children()  # who waits has no child that could be ended
            time.sleep(POLL_SECONDS)


def _slot(name: str, number: int) -> str:
    plain = re.sub(r"[^\w-]", "_", name)  # that of a part of a GPU may have slashes
    return f"gpu-{plain}-{number}"


_lender: ContextVar[_Lender | None] = ContextVar("lender", default=None)


@contextmanager
def lending(workspace: Workspace, names: Sequence[str], parallel: int = 0) -> Iterator[None]:
    """Lend these GPUs for as long as the block runs, to all threads in a copy of its context.

    Each has one of its own, also of those of other processes that lend them: where all are lent,
    it waits. Only as many as `parallel` says, if that is more than there are, share them.
    """
    share = max(1, math.ceil(parallel / len(names))) if names else 0
    token = _lender.set(_Lender(workspace, names, share) if names else None)
    try:
        yield
    finally:
        _lender.reset(token)


@contextmanager
def lent(stage: str) -> Iterator[dict[str, str]]:
    """What the environment of a stage says of the GPU that is its own meanwhile; empty: nothing.

    Raises:
        ChildrenEndedError: it was cancelled while it waited for one.
    """
    lender = _lender.get()
    if lender is None or not stage.startswith(("train@", "evaluate@")):
        yield {}
        return
    with lender.lend() as name:
        yield {VISIBLE: name}

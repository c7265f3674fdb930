"""Whether there is a GPU for torch, without importing torch."""

import sys
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
_ASK_TORCH = (sys.executable, "-c", "import torch; print(torch.cuda.is_available())")


def available(workspace: Workspace) -> bool:
    """What a training with `device: auto` will find; asked in a process, as torch takes seconds."""
    if sys.platform == "linux" and not suspected():
        return False
    return versioning.run(_ASK_TORCH, cwd=workspace.root).lines[-1:] == ("True",)


def suspected(root: Path = Path("/")) -> bool:
    """Whether anything below `root` speaks for a GPU that torch could use."""
    if any(any(root.glob(sign)) for sign in SIGNS):
        return True
    makers = root.glob("sys/bus/pci/devices/*/vendor")
    return any(file.read_text(encoding="ascii").strip() == NVIDIA for file in makers)

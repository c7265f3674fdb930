"""Where torch computes, and that it gives the same bits again; for training and evaluation.

Apart from `trainer`, since Lightning takes seconds to import.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from keyslice.config import Train
from keyslice.errors import UserError


def device(settings: Train) -> Literal["cpu", "cuda"]:
    """The device that `settings.device` comes down to on this machine.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError(
            "no GPU was found",
            where="train.device: cuda",
            rule="torch must see a CUDA device",
            remedy="set it to auto or cpu",
        )
    return "cuda" if available and settings.device != "cpu" else "cpu"


@contextmanager
def repeatable() -> Iterator[None]:
    """Ask torch for algorithms that give the same bits again; its settings are restored afterwards.

    Without its filling of every new tensor with NaN, which takes a tenth of a training step and is
    of use only to find reads of memory that nobody wrote; and without TF32, which a CPU has not.
    """
    own: Any = torch.utils.deterministic
    tf32 = torch.backends.cudnn
    before = own.fill_uninitialized_memory, tf32.allow_tf32
    enabled = torch.are_deterministic_algorithms_enabled()
    warning = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is not repeatable
    torch.use_deterministic_algorithms(True, warn_only=True)
    own.fill_uninitialized_memory, tf32.allow_tf32 = False, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warning)
        own.fill_uninitialized_memory, tf32.allow_tf32 = before

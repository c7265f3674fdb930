"""Lightning's trainer as every training here uses it: device, determinism, bars, checkpoints."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from keyslice.config import Train
from keyslice.errors import UserError

BEST, LAST = "best", "last"


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


def trainer(settings: Train, callbacks: Sequence[Callback], **options: Any) -> L.Trainer:
    """Lightning's trainer for one network; to be used within `repeatable`.

    Args:
        settings: section `train`.
        callbacks: in the order in which they are called; checkpoints last.
        options: for the trainer, instead of those chosen here.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    accelerator = {"cpu": "cpu", "cuda": "gpu"}[device(settings)]
    # Lightning's advice (more workers, a logger) does not apply, and would hide our own lines.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    terminal = sys.stderr.isatty()
    bar = [RichProgressBar(leave=False)] if terminal else []
    defaults = {
        "accelerator": accelerator,
        "devices": 1,
        "max_epochs": settings.epochs,
        "callbacks": [*callbacks, *bar],
        "logger": False,
        "enable_progress_bar": terminal,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**(defaults | options))


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


def early_stopping(settings: Train) -> EarlyStopping:
    """Stops when the validation loss has not fallen for `patience` epochs."""
    return EarlyStopping("validation_loss", patience=settings.patience, mode="min", verbose=False)


def checkpoints(folder: Path) -> ModelCheckpoint:
    """Keeps the epoch of the lowest validation loss, and the last one to resume from."""
    return ModelCheckpoint(
        folder,
        filename=BEST,
        monitor="validation_loss",
        mode="min",
        save_top_k=1,
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )

"""Lightning's trainer as every training here uses it: device, bars, stopping, checkpoints."""

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from keyslice.config import Train
from keyslice.training.device import device

BEST, LAST = "best", "last"


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

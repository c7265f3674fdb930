"""Fit one seed with Lightning; killed at any moment and run again, it gives the same files."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from keyslice import files
from keyslice.config import StageSettings, Train
from keyslice.errors import UserError
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier
from keyslice.models.seeding import derive
from keyslice.samplers import monitors
from keyslice.training.batches import Exams, training_loader, validation_loader
from keyslice.training.device import repeatable
from keyslice.training.module import FitModule, class_weights, monitor_figures
from keyslice.training.trainer import BEST, LAST, checkpoints, early_stopping, trainer


def fit_seed(
    settings: StageSettings,
    train: Exams,
    validation: Exams,
    seed: int,
    folder: Path,
    *,
    fresh: Callable[[StageSettings, int], FrameClassifier] = build.fresh,
) -> None:
    """Train one network and leave model.safetensors, history.csv and summary.json in `folder`.

    A folder with a summary is complete and left alone; one with checkpoints is resumed.

    Args:
        settings: of the variant on the dataset.
        train: exams to learn from.
        validation: exams to stop by.
        seed: of initial values, order, dropout and noise.
        folder: below `state/checkpoints/<hash of inputs>`.
        fresh: makes the network as it is before the first step; it must do so in the same way
            whenever it is called, for the training may be resumed.
    """
    if (folder / "summary.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = fresh(settings, seed)
    weights = None
    if settings.train.balance_classes:
        weights = class_weights(torch.from_numpy(train.labels), len(settings.classes))
    module = FitModule(
        model, settings.train, seed=seed, classes=len(settings.classes), class_weights=weights
    )
    last = _resumable(folder)
    # A run that was killed after its last epoch must not be given another one.
    module.history = [] if last is None else list(last["history"])
    if not stopped(module.history, settings.train):
        with torch.random.fork_rng(), repeatable():
            torch.manual_seed(derive("trainer", seed))
            callbacks = [
                early_stopping(settings.train),
                _EpochLine(settings, seed, folder),
                checkpoints(folder),
            ]
            trainer(settings.train, callbacks).fit(
                module,
                training_loader(train, settings.train.batch_size, seed),
                validation_loader(validation, settings.evaluate.batch_size),
                ckpt_path=None if last is None else folder / f"{LAST}.ckpt",
                weights_only=True,
            )
    _finish(settings, module, folder)


def stopped(history: list[dict[str, float]], settings: Train) -> bool:
    """Whether training ended with the last of these epochs: by their number or by patience."""
    if not history:
        return False
    losses = [row["validation_loss"] for row in history]
    if not math.isfinite(losses[-1]) or len(history) >= settings.epochs:
        return True
    return len(history) - 1 - best_epoch(losses) >= settings.patience


def best_epoch(losses: Sequence[float]) -> int:
    """The first with the lowest loss; a loss that is not finite is never it."""
    return int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))


def divergence(history: Sequence[Mapping[str, float]], best: int) -> list[str]:
    """A warning where training ended because the validation loss was no longer finite."""
    last = history[-1]
    if math.isfinite(last["validation_loss"]):
        return []
    return [
        f"the training diverged: the validation loss of epoch {int(last['epoch'])} is not finite; "
        f"kept are the weights of epoch {best}; try a lower learning rate"
    ]


def _resumable(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint, or None where there is none that an exact resumption could start from.

    That is also so where a crash of the machine left it torn or took the best epoch's checkpoint,
    or where the folder has been moved: Lightning would then forget which epoch was the best.
    """
    last, best = (_readable(folder / f"{name}.ckpt") for name in (LAST, BEST))
    if last is None or best is None:
        return None
    callbacks: dict[str, dict[str, Any]] = last["callbacks"]
    moved = any(state.get("dirpath", str(folder)) != str(folder) for state in callbacks.values())
    epochs = [row["validation_loss"] for row in last["history"]]
    # The best is written first: a kill between the two leaves a best that is newer than the last.
    known = best["epoch"] >= len(epochs) or best["epoch"] == best_epoch(epochs)
    return None if moved or not known else last


def _readable(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        return _checkpoint(file)
    except Exception:  # whatever torch makes of torn bytes
        return None


def _checkpoint(file: Path) -> dict[str, Any]:
    """What Lightning wrote, to this installation's own state/checkpoints and nowhere else.

    With `weights_only`, torch's reader makes tensors and plain values, through the constructors on
    its own short list; a file that asks for anything else is refused.
    """
    return torch.load(file, map_location="cpu", weights_only=True)


class _EpochLine(Callback):
    """After each epoch: a line on the terminal, and the history so far for whoever follows it."""

    def __init__(self, settings: StageSettings, seed: int, folder: Path) -> None:
        self.name = _run_name(settings, seed)
        self.file = folder / "history.csv"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        history = _history(pl_module)
        write_history(history, self.file)
        row = history[-1]
        sys.stdout.write(
            f"{self.name} · epoch {int(row['epoch'])}: loss {row['train_loss']:.4f}, validation "
            f"loss {row['validation_loss']:.4f}, AUC {row['validation_auc']:.3f}\n"
        )
        sys.stdout.flush()


def _run_name(settings: StageSettings, seed: int) -> str:
    return f"{settings.dataset} · {settings.variant} · seed {seed}"


def _history(module: Any) -> list[dict[str, float]]:
    return module.history


def write_history(rows: list[dict[str, float]], file: Path) -> None:
    """One row per epoch; written beside, then renamed."""
    frame = pd.DataFrame(rows).astype({"epoch": int})
    files.write_text(file, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def _finish(settings: StageSettings, module: FitModule, folder: Path) -> None:
    """The best epoch's network and the run's summary; the summary last, as the sign of success."""
    if not math.isfinite(module.history[0]["validation_loss"]):
        raise UserError(
            "the loss is not finite after the first epoch",
            where=f"{settings.dataset}, variant {settings.variant}",
            rule="training must converge",
            remedy="lower train.learning_rate",
        )
    module.load_state_dict(_checkpoint(folder / f"{BEST}.ckpt")["state_dict"])
    model_file = folder / "model.safetensors"
    with files.beside(model_file) as target:
        build.save(module.model, target)
    rows = module.history
    write_history(rows, folder / "history.csv")
    best = best_epoch([row["validation_loss"] for row in rows])
    warnings = [
        *divergence(rows, best),
        *monitors.warnings(monitor_figures(rows[-1]), settings.sampler_settings),
    ]
    for text in warnings:
        sys.stdout.write(f"{_run_name(settings, module.seed)} · warning: {text}\n")
    summary = {
        "epochs": len(rows),
        "best_epoch": best,
        "validation_loss": rows[best]["validation_loss"],
        "warnings": warnings,
    }
    files.write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    for name in (BEST, LAST):
        (folder / f"{name}.ckpt").unlink(missing_ok=True)


def copy_outputs(source: Path, target: Path) -> None:
    """Of one seed: the three files that are the training's result."""
    target.mkdir(parents=True)
    for name in ("model.safetensors", "history.csv", "summary.json"):
        shutil.copyfile(source / name, target / name)

"""How each seed of a variant was trained, as the train stage left it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Run:
    """One seed's training."""

    history: pd.DataFrame
    """A row per epoch: epoch, train_loss, validation_loss, validation_auc, …, and the monitors."""
    best_epoch: int
    """The epoch whose weights were kept."""
    warnings: tuple[str, ...]
    """What was found wrong with the training, and by the monitors with the sampler."""


@dataclass(frozen=True)
class Start:
    """What a variant's trainings started from, and where they ran."""

    weights: str
    """Of the backbone: `none`, `hub:<timm tag>` or a file's name."""
    device: str
    """`cpu` or `cuda`."""


def start(folder: Path) -> Start:
    """Of the trainings in data/models/<dataset>/<variant>.

    Raises:
        FileNotFoundError: the variant has not been trained.
    """
    about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return Start(about["weights"]["source"], about["device"])


def read(folder: Path, seeds: Iterable[int]) -> dict[int, Run]:
    """The runs of data/models/<dataset>/<variant>, by seed.

    Raises:
        FileNotFoundError: a seed's history or summary is missing.
    """
    runs = {}
    for seed in seeds:
        files = folder / f"seed-{seed}"
        summary = json.loads((files / "summary.json").read_text(encoding="utf-8"))
        runs[seed] = Run(
            pd.read_csv(files / "history.csv"), summary["best_epoch"], tuple(summary["warnings"])
        )
    return runs

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
    """What the monitors found wrong with the sampler."""


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

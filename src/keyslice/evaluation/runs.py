"""How each seed of a variant was trained, as the train stage left it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keyslice import initial


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
    """Of the backbone: `none`, `hub:<timm tag>` or a file's name. Or a version, as `liver/3`:
    then they started from all of its network."""
    device: str
    """`cpu` or `cuda`."""


def start(folder: Path) -> Start:
    """Of the trainings in data/models/<dataset>/<variant>.

    Raises:
        FileNotFoundError: the variant has not been trained.
    """
    about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    ancestor = initial.entry(about.get("initial", initial.SCRATCH))
    return Start(ancestor.name if ancestor else about["weights"]["source"], about["device"])


def unequal(starts: Mapping[str, Start]) -> str:
    """A caution where not all variants started from the same weights; else empty."""
    by: dict[str, list[str]] = {}
    for variant, one in starts.items():
        by.setdefault(one.weights, []).append(variant)
    if len(by) < 2:
        return ""
    told = "; ".join(f"{weights}: {', '.join(variants)}" for weights, variants in by.items())
    return (
        f"Differences are not of the samplers alone: variants started from other weights ({told})."
    )


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

"""Predictions of made-up variants; three exams a patient, known findings."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

MakePredictions = Callable[..., pd.DataFrame]


def make_predictions(
    *,
    skill: float = 1.0,
    keep: float = 0.5,
    exams: int = 60,
    seeds: tuple[int, ...] = (0, 1, 2),
    classes: int = 2,
    aim: float = 0.0,
    known: bool = True,
    patients: bool = True,
    noise: int = 0,
) -> pd.DataFrame:
    """Predictions whose labels, patients and lengths depend on nothing but the number of exams.

    Args:
        skill: how far the right class's logit stands out.
        keep: share of the frames that is kept.
        aim: how strongly the kept frames go for the informative ones.
        known: whether informative frames are recorded.
        patients: whether patients are recorded.
        noise: seed of what differs between variants.
    """
    fixed, rng = np.random.default_rng(7), np.random.default_rng([noise, 3])
    rows = []
    for number in range(exams):
        label, frames = number % classes, int(fixed.integers(12, 31))
        start = int(fixed.integers(1, frames - 4))
        hard = fixed.normal(size=classes)
        informative = np.arange(start, start + 3) if label else np.arange(0)
        for seed in seeds:
            logits = hard + rng.normal(size=classes) * 0.4 + skill * np.eye(classes)[label]
            probabilities = np.exp(logits) / np.exp(logits).sum()
            score = rng.random(frames)
            score[informative] += aim
            kept = np.sort(np.argsort(-score)[: int(np.ceil(keep * frames))])
            attention = score[kept] / score[kept].sum()
            rows.append(
                {
                    "exam_id": f"exam{number:04d}",
                    "patient": f"p{number // 3:03d}" if patients else "unknown",
                    "split": "test" if (number // 3) % 2 else "validation",
                    "label": label,
                    "seed": seed,
                    "probabilities": probabilities,
                    "frames": frames,
                    "kept": kept.astype(np.int32),
                    "attention": attention.astype(np.float32),
                    "macs": 1e6 * len(kept) + 2e4,
                    "informative": informative.astype(np.int32) if known and label else None,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def predictions() -> pd.DataFrame:
    return make_predictions()


@pytest.fixture
def make() -> MakePredictions:
    return make_predictions

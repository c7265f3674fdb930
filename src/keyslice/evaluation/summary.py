"""metrics.json and confusion.json: one variant's figures on validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from keyslice.config import Evaluate
from keyslice.evaluation.attended import attended
from keyslice.evaluation.intervals import Array, Estimate, estimate, resample
from keyslice.evaluation.predictions import SPLITS, Predicted, plain, predicted
from keyslice.metrics import METRICS, calibration_error, once

NAMES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
PAIRED = (*NAMES,)
"""The metrics whose differences are told."""


@dataclass(frozen=True)
class Assessment:
    """All figures of one variant on one split."""

    estimates: dict[str, Estimate]
    """The metrics that have intervals."""
    figures: pd.DataFrame
    """Index seed; calibration error, cost, hits on informative frames, and `classes_given`: to how
    many classes any exam was assigned."""


def split_counts(found: Predicted, split: str, settings: Evaluate) -> Array:
    """(N,R) resamples of a split's exams: the same for every variant, so differences are paired."""
    rng = np.random.default_rng([settings.seed, SPLITS.index(split)])
    return resample(found.units, found.labels, settings.resamples, rng)


def assess(table: pd.DataFrame, split: str, counts: Array, bins: int) -> Assessment:
    """All figures of `table`'s rows of `split` on the resamples `counts` (N,R)."""
    found = predicted(table, split)
    calibration = estimate(partial(calibration_error, bins=bins), found, once(len(found.labels)))
    figures = attended(table[table["split"] == split])
    figures.insert(0, "calibration_error", calibration.by_seed)
    figures["classes_given"] = [len(np.unique(p.argmax(1))) for p in found.probabilities]
    return Assessment(
        {name: estimate(metric, found, counts) for name, metric in METRICS.items()}, figures
    )


def summarise(table: pd.DataFrame, classes: Sequence[str], settings: Evaluate) -> dict[str, Any]:
    """metrics.json: nested, every leaf a number.

    `<split>.<figure>` has mean and sd over seeds and, for the metrics, the interval's low and high;
    `seeds.<seed>.<split>.<figure>` is one run's value. What is undefined (sd of one seed, hits
    where no frame is known to be informative) is left out. Of networks that look more than once,
    also plain_macs; auc_plain, with one look, and auc_gain, the paired difference to it; and the
    same for balanced accuracy.

    Raises:
        ValueError: the probabilities are not one per class.
    """
    summary: dict[str, Any] = {}
    seeds: dict[str, dict[str, Any]] = {}
    once_table = plain(table)
    for split in SPLITS:
        found = predicted(table, split)
        if found.probabilities.shape[2] != len(classes):
            raise ValueError(
                f"{found.probabilities.shape[2]} probabilities for {len(classes)} classes"
            )
        counts = split_counts(found, split, settings)
        assessed = assess(table, split, counts, settings.calibration_bins)
        summary[split] = {}
        for name, one in assessed.estimates.items():
            low, high = one.interval(settings.confidence)
            summary[split][name] = {"mean": one.mean, "sd": one.sd, "low": low, "high": high}
        for name, values in assessed.figures.items():
            summary[split][name] = {"mean": values.mean(), "sd": values.std()}
        for row, seed in enumerate(found.seeds):
            seeds.setdefault(str(seed), {})[split] = {
                **{name: one.by_seed[row] for name, one in assessed.estimates.items()},
                **assessed.figures.loc[seed].to_dict(),
            }
        if once_table is None:
            continue
        before = assess(once_table, split, counts, settings.calibration_bins)
        macs = before.figures["macs"]
        summary[split]["plain_macs"] = {"mean": macs.mean(), "sd": macs.std()}
        for name in PAIRED:
            one, other = assessed.estimates[name], before.estimates[name]
            gain = one.minus(other)
            low, high = gain.interval(settings.confidence)
            summary[split][f"{name}_plain"] = {"mean": other.mean, "sd": other.sd}
            summary[split][f"{name}_gain"] = {"mean": gain.mean, "low": low, "high": high}
            for row, seed in enumerate(found.seeds):
                seeds[str(seed)][split] |= {
                    "plain_macs": macs.loc[seed],
                    f"{name}_plain": other.by_seed[row],
                    f"{name}_gain": one.by_seed[row] - other.by_seed[row],
                }
    return _defined({**summary, "seeds": seeds})


def confusions(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """confusion.json: the classes and, by split and seed, exams by true (row) and given class."""
    return {"classes": list(classes)} | {
        split: {
            str(seed): confusion(found.labels, probabilities).tolist()
            for seed, probabilities in zip(found.seeds, found.probabilities, strict=True)
        }
        for split in SPLITS
        for found in [predicted(table, split)]
    }


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(C,C) exams by true class (row) and most probable class (column)."""
    classes = np.arange(probabilities.shape[1])
    return confusion_matrix(labels, probabilities.argmax(1), labels=classes)


def _defined(values: dict[str, Any]) -> dict[str, Any]:
    """`values` as plain floats, without NaN and without the groups that this leaves empty."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            if inner := _defined(value):
                kept[key] = inner
        elif np.isfinite(value):
            kept[key] = float(value)
    return kept

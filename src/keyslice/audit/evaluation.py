"""What the version achieves on its test exams: figures with intervals, subgroups, thresholds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors

from keyslice.audit.data import GROUPS
from keyslice.audit.subject import Subject
from keyslice.config import Evaluate, Promote
from keyslice.evaluation import predictions
from keyslice.evaluation.intervals import Array, estimate
from keyslice.evaluation.predictions import SPLITS, Predicted, predicted
from keyslice.evaluation.summary import assess, confusion, split_counts
from keyslice.exams.source import UNKNOWN
from keyslice.metrics import METRICS, Metric, auc, balanced_accuracy, confidence_bins, once

FIGURES = ("auc", "balanced_accuracy", "accuracy", "brier", "calibration_error")
SUBGROUPS = ("site", "modality")
FEWEST = Promote().minimum_cases
"""Patients, below which a subgroup's figures are not told."""


def evaluation(one: Subject) -> dict[str, Any]:
    """Of the version's own seed, for JSON.

    From its predictions while data/results is this version's; else the figures that the ledger was
    told at registration, which have no intervals and no subgroups.
    """
    package = one.package
    thresholds = package["thresholds"] if package else None
    table = _predictions(one)
    found: dict[str, Any] = {
        "seed": one.told["seed"],
        "confidence": one.settings.evaluate.confidence,
        "resamples": one.settings.evaluate.resamples,
        "thresholds": thresholds,
        "fewest": FEWEST,
    }
    if table is None:
        empty = ("all_seeds", "subgroups", "recalls", "calibration", "confusion", "on_test")
        return found | {"from": "ledger", "splits": _told(one)} | dict.fromkeys(empty)
    settings, classes = one.settings.evaluate, one.told["classes"]
    own = table[table["seed"] == one.told["seed"]]
    test = predicted(own, "test")
    counts = split_counts(test, "test", settings)
    return found | {
        "from": "predictions",
        "splits": {split: _figures(own, split, settings) for split in SPLITS},
        "all_seeds": _all_seeds(table, settings),
        "subgroups": _subgroups(one, own, settings),
        "recalls": _recalls(test, counts, classes, settings),
        "calibration": _calibration(test, settings.calibration_bins),
        "confusion": confusion(test.labels, test.probabilities[0]).tolist(),
        "on_test": thresholds and _on_test(test, counts, classes, thresholds["classes"], settings),
    }


def test_predictions(one: Subject) -> Predicted | None:
    """Of the version's own seed, for figures; None: they are not here any more."""
    table = _predictions(one)
    return None if table is None else predicted(table[table["seed"] == one.told["seed"]], "test")


def _predictions(one: Subject) -> pd.DataFrame | None:
    if not one.is_here("evaluate"):
        return None
    path = one.workspace.results(one.model, one.told["variant"]) / "predictions.parquet"
    try:
        table = predictions.read(path)
    except (OSError, ValueError, KeyError, pandera.errors.SchemaError):
        return None  # taken away, or not as the stage left it
    return table if one.told["seed"] in set(table["seed"]) else None


def _told(one: Subject) -> dict[str, Any]:
    """The figures in the ledger, in the same form."""
    return {
        split: {
            "exams": None,
            "patients": None,
            "figures": {name: _value(part[name]) for name in FIGURES if name in part},
        }
        for split in SPLITS
        for part in [one.told["figures"].get(split, {})]
    }


def _figures(table: pd.DataFrame, split: str, settings: Evaluate) -> dict[str, Any]:
    found = predicted(table, split)
    counts = split_counts(found, split, settings)
    assessed = assess(table, split, counts, settings.calibration_bins)
    figures = {
        name: _value(one.mean, one.interval(settings.confidence))
        for name, one in assessed.estimates.items()
    }
    figures["calibration_error"] = _value(assessed.figures["calibration_error"].iloc[0])
    return {**_size(table[table["split"] == split]), "figures": figures}


def _all_seeds(table: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """Mean and spread over the variant's seeds on test: how far the figures are one training's."""
    found = predicted(table, "test")
    some = {
        name: estimate(metric, found, once(len(found.labels))) for name, metric in METRICS.items()
    }
    return {
        "seeds": list(found.seeds),
        **{n: {"mean": _plain(one.mean), "sd": _plain(one.sd)} for n, one in some.items()},
    }


def _subgroups(one: Subject, own: pd.DataFrame, settings: Evaluate) -> dict[str, Any] | None:
    """AUC and balanced accuracy of the test exams of each site and modality.

    Of fewer than FEWEST patients, the counts alone.
    """
    if one.manifest is None:
        return None
    columns = {kind: GROUPS[kind] for kind in SUBGROUPS}
    known = one.manifest.set_index("exam_id")[list(columns.values())]
    joined = own[own["split"] == "test"].join(known, on="exam_id", how="inner")
    metrics = {"auc": auc, "balanced_accuracy": balanced_accuracy}
    return {
        kind: [
            {"name": str(value), **_size(part), "figures": _of_group(part, metrics, settings)}
            for value, part in joined.groupby(column)
        ]
        for kind, column in columns.items()
    }


def _of_group(
    part: pd.DataFrame, metrics: Mapping[str, Metric], settings: Evaluate
) -> dict[str, Any] | None:
    found = predicted(part[list(predictions.SCHEMA.columns)], "test")
    if len(set(found.units)) < FEWEST:
        return None
    counts = split_counts(found, "test", settings)
    return {name: _estimated(metric, found, counts, settings) for name, metric in metrics.items()}


def _recalls(
    test: Predicted, counts: Array, classes: list[str], settings: Evaluate
) -> list[dict[str, Any]]:
    """Share of each class's exams that were given to it."""
    rows = []
    for number, name in enumerate(classes):
        members = test.labels == number
        found = {
            "name": name,
            "exams": int(members.sum()),
            "patients": len(set(test.units[members])),
        }
        given = test.probabilities[0].argmax(1) == number
        recall = _estimated(_share(members, given), test, counts, settings)
        rows.append(found | {"recall": recall if members.any() else None})
    return rows


def _on_test(
    test: Predicted,
    counts: Array,
    classes: list[str],
    thresholds: Mapping[str, Mapping[str, float] | None],
    settings: Evaluate,
) -> dict[str, Any]:
    """Sensitivity and specificity on test, at the thresholds that were chosen on validation."""
    found: dict[str, Any] = {}
    for name, chosen in thresholds.items():
        number = classes.index(name)
        positive = test.labels == number
        if chosen is None or positive.all() or not positive.any():
            found[name] = None
            continue
        reached = test.probabilities[0][:, number] >= chosen["threshold"]
        found[name] = {
            "positives": int(positive.sum()),
            "negatives": int((~positive).sum()),
            "sensitivity": _estimated(_share(positive, reached), test, counts, settings),
            "specificity": _estimated(_share(~positive, ~reached), test, counts, settings),
        }
    return found


def _share(members: np.ndarray, holds: np.ndarray) -> Metric:
    """Of the members (N,) those for which something holds (N,), on each resample."""
    return lambda labels, probabilities, counts: (members & holds) @ counts / (members @ counts)


def _estimated(
    metric: Metric, found: Predicted, counts: Array, settings: Evaluate
) -> dict[str, Any]:
    estimated = estimate(metric, found, counts)
    return _value(estimated.mean, estimated.interval(settings.confidence))


def _calibration(test: Predicted, bins: int) -> list[dict[str, Any]]:
    """Confidence and accuracy of the exams in each bin that has any."""
    p = test.probabilities[0]
    members = confidence_bins(p, bins)
    right = p.argmax(1) == test.labels
    return [
        {
            "from": number / bins,
            "to": (number + 1) / bins,
            "exams": int(inside.sum()),
            "confidence": float(p.max(1)[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for number in range(bins)
        for inside in [members == number]
        if inside.any()
    ]


def _size(part: pd.DataFrame) -> dict[str, int]:
    exams = part.drop_duplicates("exam_id")
    known = exams.loc[exams["patient"] != UNKNOWN, "patient"].nunique()
    return {"exams": len(exams), "patients": known}


def _value(value: float, interval: tuple[float, float] | None = None) -> dict[str, float | None]:
    """NaN, of a group with one class alone, becomes None."""
    low, high = interval or (float("nan"), float("nan"))
    return {"value": _plain(value), "low": _plain(low), "high": _plain(high)}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

import json

import numpy as np
import pytest

from keyslice.config import Evaluate
from keyslice.evaluation.predictions import predicted
from keyslice.evaluation.summary import confusions, summarise
from keyslice.metrics import auc, once

SETTINGS = Evaluate(resamples=200)
CLASSES = ("healthy", "lesion")


def leaves(values):
    for value in values.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_every_leaf_is_a_finite_number(predictions):
    summary = summarise(predictions, CLASSES, SETTINGS)
    assert all(isinstance(leaf, float) and np.isfinite(leaf) for leaf in leaves(summary))
    json.dumps(summary, allow_nan=False)


def test_the_aggregate_is_the_mean_and_spread_of_the_seeds(predictions):
    summary = summarise(predictions, CLASSES, SETTINGS)
    for split in ("validation", "test"):
        found = predicted(predictions, split)
        by_seed = [auc(found.labels, p, once(len(found.labels)))[0] for p in found.probabilities]
        seeds = [summary["seeds"][str(seed)][split]["auc"] for seed in (0, 1, 2)]
        assert seeds == pytest.approx(by_seed)
        assert summary[split]["auc"]["mean"] == pytest.approx(np.mean(by_seed))
        assert summary[split]["auc"]["sd"] == pytest.approx(np.std(by_seed, ddof=1))


def test_what_is_not_defined_is_left_out(make):
    summary = summarise(make(seeds=(4,), known=False), CLASSES, SETTINGS)
    assert set(summary["test"]["auc"]) == {"mean", "low", "high"}
    assert "hit_rate" not in summary["test"]
    assert "hit_rate" not in summary["seeds"]["4"]["test"]


def test_the_same_predictions_give_the_same_summary(predictions):
    shuffled = predictions.sample(frac=1, random_state=1)
    assert summarise(predictions, CLASSES, SETTINGS) == summarise(shuffled, CLASSES, SETTINGS)


def test_probabilities_must_fit_the_classes(predictions):
    with pytest.raises(ValueError, match="2 probabilities for 3 classes"):
        summarise(predictions, ("a", "b", "c"), SETTINGS)


def test_confusion_counts_the_exams_of_each_split_and_seed(make):
    predictions = make(classes=3)
    found = confusions(predictions, ("a", "b", "c"))
    matrix = np.array(found["test"]["1"])
    rows = predictions[(predictions["split"] == "test") & (predictions["seed"] == 1)]
    assert matrix.sum(1).tolist() == rows["label"].value_counts().sort_index().tolist()
    right = sum(row.probabilities.argmax() == row.label for row in rows.itertuples())
    assert np.trace(matrix) == right

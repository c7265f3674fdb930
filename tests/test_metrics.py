from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    roc_auc_score,
)

from keyslice.metrics import (
    METRICS,
    accuracy,
    auc,
    balanced_accuracy,
    brier,
    calibration_error,
    confidence_bins,
    once,
)


def medmnist_auc(labels, probabilities):
    """MedMNIST's evaluator."""
    if probabilities.shape[1] == 2:
        return roc_auc_score(labels, probabilities[:, 1])
    classes = range(probabilities.shape[1])
    return np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in classes])


def multiclass_brier(labels, probabilities):
    classes = np.arange(probabilities.shape[1])
    return brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)


REFERENCES = {
    auc: medmnist_auc,
    accuracy: lambda labels, p: accuracy_score(labels, p.argmax(1)),
    balanced_accuracy: lambda labels, p: balanced_accuracy_score(labels, p.argmax(1)),
    brier: multiclass_brier,
}


@st.composite
def samples(draw):
    """Labels with every class, probabilities with ties, and counts that keep every class."""
    classes = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 30)])
    scores = rng.integers(1, draw(st.integers(3, 30)), (len(labels), classes)).astype(float)
    counts = rng.integers(0, 4, (len(labels), 5)).astype(float)
    counts[:classes] += 1
    return labels, scores / scores.sum(1, keepdims=True), counts


@pytest.mark.parametrize("metric", REFERENCES, ids=lambda metric: metric.__name__)
@settings(max_examples=25, deadline=None)
@given(sample=samples())
def test_a_metric_equals_scikit_learn_on_the_repeated_exams(metric, sample):
    labels, probabilities, counts = sample
    found = metric(labels, probabilities, counts)
    for column, value in zip(counts.T, found, strict=True):
        repeated = np.repeat(np.arange(len(labels)), column.astype(int))
        assert value == pytest.approx(REFERENCES[metric](labels[repeated], probabilities[repeated]))


@settings(max_examples=25, deadline=None)
@given(sample=samples())
def test_auc_does_not_change_when_scores_are_transformed_in_order(sample):
    labels, probabilities, counts = sample
    assert auc(labels, probabilities**3, counts) == pytest.approx(
        auc(labels, probabilities, counts)
    )


def test_every_metric_with_an_interval_is_held_to_a_reference():
    assert set(METRICS.values()) == set(REFERENCES)


def test_auc_leaves_out_a_class_that_nobody_has():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.3, 0.5, 0.2]])
    assert auc(labels, p, once(4)) == pytest.approx([1.0])


def test_auc_of_a_single_class_is_not_defined():
    assert np.isnan(auc(np.zeros(3, int), np.full((3, 2), 0.5), once(3))).all()


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    # Two of confidence 0.9, one right; two of confidence 0.6, both right.
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = calibration_error(np.array([0, 1, 0, 1]), p, once(4), bins=10)
    assert found == pytest.approx([(2 * abs(0.5 - 0.9) + 2 * abs(1 - 0.6)) / 4])


def test_calibration_error_of_repeated_exams_equals_their_count():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 20), rng.dirichlet([1, 1], 20)
    counts = rng.integers(1, 4, (20, 1)).astype(float)
    repeated = np.repeat(np.arange(20), counts[:, 0].astype(int))
    error = partial(calibration_error, bins=5)
    assert error(labels, p, counts) == pytest.approx(
        error(labels[repeated], p[repeated], once(len(repeated)))
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.51, 0.49]])
    assert confidence_bins(p, 2).tolist() == [1, 0, 1]

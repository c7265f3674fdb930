import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from keyslice.evaluation.intervals import Estimate, estimate, resample
from keyslice.evaluation.predictions import Predicted
from keyslice.metrics import accuracy, auc, once


def sample(rng, patients=60, per_patient=1, seeds=1, skill=1.0):
    """Predictions of balanced classes; a patient's exams share a class and a difficulty."""
    labels = np.repeat(np.arange(patients) % 2, per_patient)
    units = np.repeat([f"p{number:04d}" for number in range(patients)], per_patient)
    shared = np.repeat(rng.normal(size=patients), per_patient)
    logit = shared + rng.normal(size=(seeds, len(labels))) * 0.3 + skill * (labels - 0.5)
    positive = 1 / (1 + np.exp(-logit))
    probabilities = np.stack([1 - positive, positive], axis=2)
    return Predicted(tuple(range(seeds)), units.copy(), units, labels, probabilities)


@st.composite
def exams(draw):
    size = draw(st.integers(1, 30))
    units = draw(st.lists(st.sampled_from("abcdefgh"), min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    return np.array(units, dtype=object), np.array(labels)


@settings(max_examples=60, deadline=None)
@given(exams=exams())
def test_no_class_vanishes_from_a_resample(exams):
    units, labels = exams
    counts = resample(units, labels, 20, np.random.default_rng(0))
    for label in np.unique(labels):
        assert (counts[labels == label].sum(0) > 0).all()


@settings(max_examples=60, deadline=None)
@given(exams=exams())
def test_the_exams_of_a_patient_are_drawn_together(exams):
    units, labels = exams
    counts = resample(units, labels, 20, np.random.default_rng(0))
    for unit in np.unique(units):
        assert (counts[units == unit] == counts[units == unit][0]).all()


@settings(max_examples=60, deadline=None)
@given(exams=exams())
def test_a_resample_holds_as_many_patients_as_there_are(exams):
    units, labels = exams
    _, first = np.unique(units, return_index=True)
    counts = resample(units, labels, 20, np.random.default_rng(0))
    assert (counts[first].sum(0) == len(first)).all()


def test_the_same_generator_state_repeats_the_resamples():
    units, labels = np.array(list("abcd"), dtype=object), np.array([0, 0, 1, 1])
    first, again = (resample(units, labels, 50, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)


def test_the_interval_equals_one_drawn_exam_by_exam():
    """Within 4 Monte-Carlo standard errors of a plain bootstrap: a false alarm in 1 of 15,000."""
    predicted = sample(np.random.default_rng(1), patients=80)
    counts = resample(predicted.units, predicted.labels, 4000, np.random.default_rng(2))
    found = estimate(auc, predicted, counts).draws[0]
    rng, plain = np.random.default_rng(5), []
    for _ in range(4000):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(predicted.labels == c), 40) for c in (0, 1)]
        )
        labels, p = predicted.labels[drawn], predicted.probabilities[0][drawn]
        plain.append(auc(labels, p, once(80))[0])
    error = np.std(plain) * np.sqrt(2 / 4000)
    assert abs(found.mean() - np.mean(plain)) < 4 * error
    assert found.std() == pytest.approx(np.std(plain), rel=4 * np.sqrt(1 / 4000))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """At 95 % nominal, 200 simulated test sets.

    A percentile interval over 50 patients of each class covers about 94 %; fewer than 176 of 200
    would be a false alarm in about 1 of 500 runs, and over 198 in fewer than 1 of 1,000.
    """
    truth = accuracy_in_the_limit()
    covered = 0
    for trial in range(200):
        predicted = sample(np.random.default_rng([11, trial]), patients=100, per_patient=2)
        rng = np.random.default_rng([12, trial])
        counts = resample(predicted.units, predicted.labels, 400, rng)
        low, high = estimate(accuracy, predicted, counts).interval(0.95)
        covered += low <= truth <= high
    assert binom.cdf(175, 200, 0.94) < 1 / 400
    assert 176 <= covered <= 198


def accuracy_in_the_limit():
    predicted = sample(np.random.default_rng(99), patients=200_000)
    return accuracy(predicted.labels, predicted.probabilities[0], once(200_000))[0]


def test_resampling_exams_of_several_exams_each_is_too_narrow():
    predicted = sample(np.random.default_rng(4), patients=60, per_patient=4)
    by_patient = resample(predicted.units, predicted.labels, 800, np.random.default_rng(0))
    exam = np.array([f"e{number}" for number in range(240)], dtype=object)
    by_exam = resample(exam, predicted.labels, 800, np.random.default_rng(0))
    wide, narrow = (estimate(auc, predicted, c).draws.std() for c in (by_patient, by_exam))
    assert narrow < 0.7 * wide


def two_variants():
    """Two variants that find the same exams hard, 0.05 apart in skill."""
    better = sample(np.random.default_rng(6), seeds=3, skill=1.2)
    worse = sample(np.random.default_rng(6), seeds=3, skill=0.9)
    return better, worse


def test_pairing_narrows_the_interval_of_a_difference():
    better, worse = two_variants()
    counts, other = (
        resample(better.units, better.labels, 800, np.random.default_rng(s)) for s in (0, 1)
    )
    paired = estimate(auc, better, counts).minus(estimate(auc, worse, counts))
    unpaired = estimate(auc, better, counts).minus(estimate(auc, worse, other))
    assert paired.mean == unpaired.mean
    assert paired.standard_error < 0.5 * unpaired.standard_error


def test_a_difference_is_that_of_the_means_on_the_same_resample():
    better, worse = two_variants()
    counts = resample(better.units, better.labels, 7, np.random.default_rng(0))
    paired = estimate(auc, better, counts).minus(estimate(auc, worse, counts))
    by_seed = [
        auc(better.labels, better.probabilities[seed], counts)
        - auc(worse.labels, worse.probabilities[seed], counts)
        for seed in range(3)
    ]
    assert paired.draws == pytest.approx(np.mean(by_seed, axis=0))


def test_a_variant_does_not_differ_from_itself():
    better, _ = two_variants()
    counts = resample(better.units, better.labels, 20, np.random.default_rng(0))
    found = estimate(auc, better, counts)
    assert found.minus(found).interval(0.95) == (0, 0)


def test_a_difference_needs_no_common_seeds():
    first = Estimate((0, 1), np.array([0.8, 0.9]), np.array([[0.7, 0.8], [0.9, 1.0]]))
    other = Estimate((2,), np.array([0.5]), np.array([[0.4, 0.7]]))
    difference = first.minus(other)
    assert difference.mean == pytest.approx(0.35)
    assert difference.draws == pytest.approx([0.4, 0.2])


def test_a_difference_of_other_resamples_is_refused():
    first, other = (Estimate((0,), np.ones(1), np.ones((1, number))) for number in (2, 3))
    with pytest.raises(ValueError, match="same resamples"):
        first.minus(other)


def test_the_spread_over_one_seed_is_not_defined():
    assert np.isnan(Estimate((0,), np.ones(1), np.ones((1, 2))).sd)

"""Operating thresholds: the laws that Youden's maximum obeys, held to a search over all cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyslice.evaluation.thresholds import Threshold, thresholds


def binary(labels, scores) -> Threshold:
    scores = np.asarray(scores, float)
    found = thresholds(np.asarray(labels), np.stack([1 - scores, scores], 1), ("no", "yes"))
    assert list(found) == ["yes"]
    assert found["yes"] is not None
    return found["yes"]


def figures(labels, scores, threshold: float) -> tuple[float, float]:
    positive, called = np.asarray(labels) == 1, np.asarray(scores) >= threshold
    return called[positive].mean(), (~called[~positive]).mean()


def test_a_threshold_by_hand() -> None:
    found = binary([0, 0, 1, 0, 1], [0.1, 0.2, 0.4, 0.5, 0.9])
    assert found == Threshold(pytest.approx(0.3), 1.0, pytest.approx(2 / 3), 2, 3)


def test_classes_that_part_are_parted_in_the_middle() -> None:
    found = binary([0, 1], [0.2, 0.8])
    assert (found.threshold, found.sensitivity, found.specificity) == (0.5, 1, 1)


def test_of_equally_good_thresholds_the_most_sensitive_is_taken() -> None:
    labels, scores = [0, 1, 0, 1], [0.1, 0.2, 0.7, 0.9]  # from 0.2 or from 0.9: J is 0.5
    assert figures(labels, scores, 0.8) == (0.5, 1)
    found = binary(labels, scores)
    assert (found.sensitivity, found.specificity) == (1, 0.5)


def test_equally_good_ones_that_differ_in_the_last_digit_are_equal() -> None:
    """In doubles 1 - 5/6 is less than 1/2 - 2/6."""
    counts = [(1, 2), (1, 3), (0, 1)]  # positives and negatives at 0.9, 0.5 and 0.1
    labels = [label for p, n in counts for label in [1] * p + [0] * n]
    scores = np.repeat([0.9, 0.5, 0.1], [p + n for p, n in counts])
    found = binary(labels, scores)
    assert found.threshold == pytest.approx(0.3)
    assert (found.sensitivity, found.specificity) == pytest.approx((1, 1 / 6))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=25))
def test_no_cut_has_a_higher_j_and_the_figures_are_those_of_the_threshold(exams) -> None:
    labels, scores = [int(y) for y, _ in exams], [s / 8 for _, s in exams]
    if len(set(labels)) < 2:
        return
    found = binary(labels, scores)
    reached = figures(labels, scores, found.threshold)
    assert (found.sensitivity, found.specificity) == pytest.approx(reached)
    cuts = [sum(figures(labels, scores, cut / 16)) for cut in range(-1, 18)]
    assert sum(reached) == pytest.approx(max(cuts))


def test_neighbouring_doubles_are_still_parted() -> None:
    low, high = 0.5, np.nextafter(0.5, 1)  # half way is rounded to the lower one
    assert low < binary([0, 1], [low, high]).threshold <= high


def test_scores_that_all_agree_make_every_exam_positive() -> None:
    found = binary([0, 1], [0.4, 0.4])
    assert (found.sensitivity, found.specificity) == (1, 0)
    assert found.threshold <= 0.4


def test_each_of_several_classes_is_held_against_the_rest_and_an_absent_one_has_none() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])
    found = thresholds(np.array([0, 1, 0]), probabilities, ("a", "b", "c"))
    assert list(found) == ["a", "b", "c"]
    assert found["c"] is None
    assert found["a"] == Threshold(pytest.approx(0.4), 1, 1, 2, 1)
    assert found["b"] == Threshold(pytest.approx(0.5), 1, 1, 1, 2)


def test_exams_of_one_class_alone_give_no_threshold() -> None:
    assert thresholds(np.array([1]), np.array([[0.1, 0.9]]), ("no", "yes")) == {"yes": None}

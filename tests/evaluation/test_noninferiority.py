import numpy as np
import pytest

from keyslice.evaluation import noninferiority
from keyslice.evaluation.noninferiority import compare
from keyslice.metrics import accuracy, auc, balanced_accuracy

SETTINGS = {"margin": 0.05, "alpha": 0.0025, "resamples": 4000, "seed": 0}
METRICS = pytest.mark.parametrize("metric", [auc, balanced_accuracy])


def made(patients=200, classes=2, each=1, apart=0.3):
    """Labels, units, and two models that find the same exams hard."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(patients) % classes, each)
    units = np.repeat([f"p{number}" for number in range(patients)], each)
    common = rng.normal(size=(len(labels), classes)) + 1.5 * np.eye(classes)[labels]

    def model():
        odds = np.exp(common + apart * rng.normal(size=common.shape))
        return odds / odds.sum(1, keepdims=True)

    return labels, units, model(), model()


def agreeing(patients, **changes):
    labels, units, one, _ = made(patients)
    return compare(auc, labels, units, one, one, **SETTINGS | changes)


@METRICS
@pytest.mark.parametrize("classes", [2, 5])
def test_the_figures_are_the_metric_s_own(metric, classes):
    labels, units, one, other = made(classes=classes)
    found = compare(metric, labels, units, one, other, **SETTINGS)
    ones = np.ones((len(labels), 1))
    assert found.challenger == metric(labels, one, ones)[0]
    assert found.difference == found.challenger - metric(labels, other, ones)[0]
    assert found.low < found.difference < found.high


@METRICS
def test_exchanging_the_models_exchanges_the_bounds(metric):
    labels, units, one, other = made()
    there = compare(metric, labels, units, one, other, **SETTINGS)
    back = compare(metric, labels, units, other, one, **SETTINGS)
    assert (back.low, back.high) == (-there.high, -there.low)


def test_models_that_never_disagree_are_as_sure_as_the_patients_are_many():
    """(1 − margin)ⁿ ≤ alpha: by 117 patients of each class for 0.05 and 0.0025. Ten of 4,000 draws
    are below the bound, so it is found to 5 % (one standard error)."""
    for patients in (60, 234):
        found = agreeing(patients)
        assert -found.low == pytest.approx(1 - 0.0025 ** (2 / patients), rel=0.2)
        assert -found.low == found.high
    assert agreeing(180).verdict == "cannot tell"
    assert agreeing(290).verdict == "not inferior"


@METRICS
def test_no_standard_error_is_zero(metric):
    labels, units, one, _ = made(20)
    assert compare(metric, labels, units, one, one, **SETTINGS).standard_error > 0.01


@METRICS
def test_the_bounds_of_many_exams_are_those_of_the_normal_distribution(metric):
    labels, units, one, other = made(1500, apart=2.0)
    found = compare(metric, labels, units, one, other, **SETTINGS | {"alpha": 0.05})
    reach = 1.645 * found.standard_error
    assert found.low == pytest.approx(found.difference - reach, abs=0.15 * reach)
    assert found.high == pytest.approx(found.difference + reach, abs=0.15 * reach)


@METRICS
def test_a_model_that_guesses_is_worse(metric):
    labels, units, one, _ = made(300)
    guessing = np.random.default_rng(3).dirichlet(np.ones(2), len(labels))
    assert compare(metric, labels, units, guessing, one, **SETTINGS).verdict == "worse"
    assert compare(metric, labels, units, one, guessing, **SETTINGS).verdict == "not inferior"


def test_exams_of_one_patient_are_no_further_evidence():
    labels, units, one, other = made(60)
    again = [np.repeat(array, 3, axis=0) for array in (labels, units, one, other)]
    single = compare(auc, labels, units, one, other, **SETTINGS)
    assert compare(auc, *again, **SETTINGS).low == pytest.approx(single.low)
    alone = compare(auc, again[0], np.arange(180), *again[2:], **SETTINGS)
    assert alone.low > single.low + 0.01


def test_the_recall_of_one_class_can_be_compared():
    labels, units, one, other = made(300)
    of = labels == 1
    found = compare(accuracy, labels[of], units[of], one[of], other[of], **SETTINGS)
    assert found.challenger == (one[of].argmax(1) == 1).mean()
    assert found.low < found.difference < found.high


def test_a_lower_level_and_fewer_patients_widen_the_interval():
    assert agreeing(200, alpha=0.001).low < agreeing(200, alpha=0.01).low
    assert agreeing(100).low < agreeing(200).low


def test_power_rises_with_patients_and_margin():
    powers = [agreeing(n, margin=m).power for n, m in ((100, 0.05), (300, 0.05), (300, 0.1))]
    assert powers == sorted(powers)
    assert powers[0] < 0.2
    assert powers[-1] > 0.95


def test_with_the_margin_for_a_power_the_power_is_that():
    found = agreeing(100)
    assert agreeing(100, margin=found.margin_for(0.8)).power == pytest.approx(0.8)


def test_the_same_seed_repeats_the_bounds_whatever_is_held_at_once(monkeypatch):
    labels, units, one, other = made(60)
    first = compare(auc, labels, units, one, other, **SETTINGS)
    monkeypatch.setattr(noninferiority, "CELLS", 7000)
    again = compare(auc, labels, units, one, other, **SETTINGS)
    assert (again.low, again.high) == pytest.approx((first.low, first.high))
    other_seed = compare(auc, labels, units, one, other, **SETTINGS | {"seed": 1})
    assert other_seed.low != first.low


def test_too_few_resamples_for_the_level_are_refused():
    with pytest.raises(ValueError, match="300 resamples cannot tell"):
        agreeing(40, resamples=300)


def test_a_metric_that_is_not_defined_is_refused():
    labels, units, one, other = made(40)
    with pytest.raises(ValueError, match="not defined"):
        compare(auc, np.zeros_like(labels), units, one, other, **SETTINGS)

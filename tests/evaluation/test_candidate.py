import numpy as np
import pandas as pd
import pytest

from keyslice.config import Evaluate
from keyslice.evaluation.candidate import choose
from keyslice.evaluation.comparison import assess_all
from keyslice.evaluation.intervals import Estimate
from keyslice.evaluation.summary import Assessment


def assessment(values, macs, error=0.02):
    """With the given AUC by seed; `error` is the standard error of their mean."""
    values = np.array(values, dtype=float)
    draws = np.array([-1.0, 1.0]) * error / np.sqrt(2)
    seeds = tuple(range(len(values)))
    figures = pd.DataFrame({"macs": float(macs), "classes_given": 2}, index=seeds)
    return Assessment({"auc": Estimate(seeds, values, values[:, None] + draws)}, figures)


VALIDATION = {
    "best": assessment([0.90, 0.90], macs=100, error=0),
    "close": assessment([0.88, 0.89], macs=50),
    "far": assessment([0.70, 0.99], macs=10),
    "outside": assessment([0.99, 0.99], macs=1),
}


def test_the_cheapest_within_one_standard_error_is_taken():
    chosen = choose(VALIDATION, ("best", "close", "far"), 1)
    assert (chosen.variant, chosen.macs) == ("close", 50)


def test_the_standard_error_is_that_of_the_paired_difference():
    # Both move together from resample to resample: .01 apart is far, whatever each one's error.
    together = {
        "a": assessment([0.90], macs=9, error=0.1),
        "b": assessment([0.89], macs=1, error=0.1),
    }
    assert choose(together, ("a", "b"), 1).variant == "a"
    apart = together | {"b": assessment([0.89], macs=1, error=-0.1)}
    assert choose(apart, ("a", "b"), 1).variant == "b"


def test_a_trifle_of_cost_does_not_decide():
    nearly = {"a": assessment([0.90], macs=100.5, error=0), "b": assessment([0.89], macs=100)}
    assert choose(nearly, ("a", "b"), 1).variant == "a"
    assert choose(nearly | {"a": assessment([0.90], 102, error=0)}, ("a", "b"), 1).variant == "b"


def test_its_best_seed_on_validation_is_taken():
    chosen = choose(VALIDATION, ("best", "close", "far"), 1)
    assert (chosen.seed, chosen.validation_auc) == (1, 0.89)


def test_within_nothing_the_best_is_taken():
    assert choose(VALIDATION, ("best", "close", "far"), 0).variant == "best"


def test_a_variant_that_is_no_candidate_has_no_say():
    assert choose(VALIDATION, ("close", "far"), 0).variant == "close"


def test_of_equally_cheap_ones_the_better_is_taken():
    equal = {"a": assessment([0.89], macs=5), "b": assessment([0.90], macs=5)}
    assert choose(equal, ("a", "b"), 1).variant == "b"


def test_the_reason_names_who_was_close_and_why_it_won():
    reason = choose(VALIDATION, ("best", "close", "far"), 1).reason
    assert "best, close" in reason
    assert "Cheapest of these is close" in reason


def test_test_exams_have_no_say(make):
    results = {"a": make(skill=1.0), "b": make(skill=1.2, noise=1)}
    settings = Evaluate(resamples=100)
    before = choose(assess_all(results, "validation", settings), ("a", "b"), 1)
    for table in results.values():
        test = table["split"] == "test"
        table.loc[test, "probabilities"] = table.loc[test, "probabilities"].map(lambda p: p[::-1])
        table.loc[test, "macs"] *= 1000
    assert choose(assess_all(results, "validation", settings), ("a", "b"), 1) == before


def test_variants_without_common_seeds_are_held_against_each_other(make):
    results = {"a": make(skill=0.3), "b": make(skill=3.0, noise=1, seeds=(7,))}
    chosen = choose(assess_all(results, "validation", Evaluate(resamples=100)), ("a", "b"), 1)
    assert (chosen.variant, chosen.seed) == ("b", 7)


def test_without_candidates_there_is_no_choice():
    with pytest.raises(ValueError, match="no candidate"):
        choose(VALIDATION, (), 1)


@pytest.mark.parametrize(("before", "warned"), [(0.95, True), (0.905, False), (0.8, False)])
def test_one_that_would_be_better_off_with_one_look_carries_a_warning(before, warned):
    often = {"best": _of_both(assessment([0.90, 0.90], macs=300, error=0.01))}
    once = {"best": _of_both(assessment([before, before], macs=100, error=0))}
    chosen = choose(often, ("best",), 1, once, 0.95)
    assert bool(chosen.warning) == warned
    if warned:
        assert chosen.warning.startswith(
            "With one look its AUC on validation exams is higher, by 0.050 ("
        )
    assert not choose(often, ("best",), 1).warning


def test_a_loss_of_balanced_accuracy_is_one_too():
    same = assessment([0.90, 0.90], macs=300, error=0.01)
    other = assessment([0.95, 0.95], macs=100, error=0).estimates["auc"]
    once = Assessment(_of_both(same).estimates | {"balanced_accuracy": other}, same.figures)
    warning = choose({"best": _of_both(same)}, ("best",), 1, {"best": once}, 0.95).warning
    assert warning.startswith("With one look its balanced accuracy on validation exams is higher")


def _of_both(one):
    """The same for balanced accuracy."""
    return Assessment(one.estimates | {"balanced_accuracy": one.estimates["auc"]}, one.figures)


@pytest.mark.parametrize(("offset", "warned"), [(0.0, False), (2.0, True)])
def test_a_run_that_gives_all_exams_one_class_carries_a_warning(make, offset, warned):
    table = make()
    table["probabilities"] = [
        np.array([p[0] + offset, p[1]]) / (1 + offset) for p in table["probabilities"]
    ]
    chosen = choose(assess_all({"a": table}, "validation", Evaluate(resamples=9)), ("a",), 1)
    assert (
        chosen.warning.startswith("This run gives every validation exam the same class") == warned
    )

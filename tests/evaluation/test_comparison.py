import numpy as np
import pytest

from keyslice.config import Evaluate, Variant
from keyslice.evaluation.comparison import DifferentExamsError, assess_all, compare
from keyslice.evaluation.summary import summarise

SETTINGS = Evaluate(resamples=200)
VARIANTS = {
    "full": Variant(sampler="full"),
    "das": Variant(sampler="das", keep=0.5),
    "paper": Variant(sampler="das_paper", keep=0.5),
}


@pytest.fixture
def results(make):
    return {
        "full": make(skill=1.5, keep=1.0),
        "das": make(skill=1.4, aim=2.0, noise=1),
        "paper": make(skill=0.4, noise=2, seeds=(0, 1)),
    }


def table_of(results, flag=None, references=("full",)):
    test = assess_all(results, "test", SETTINGS)
    return compare(test, VARIANTS, references, 0.95, flag).set_index("variant")


def test_a_row_agrees_with_the_variants_own_summary(results):
    table = table_of(results)
    for variant, predictions in results.items():
        own = summarise(predictions, ("a", "b"), SETTINGS)["test"]
        for metric in ("auc", "balanced_accuracy", "accuracy", "brier"):
            for figure, value in own[metric].items():
                assert table.loc[variant, f"{metric}_{figure}"] == pytest.approx(value)


def test_cost_is_relative_to_the_full_exam(results):
    table = table_of(results)
    assert table.loc["full", "cost"] == 1
    assert table.loc["das", "cost"] == pytest.approx(
        table.loc["das", "macs"] / table.loc["full", "macs"]
    )


def test_without_the_full_exam_there_is_no_relative_cost(results):
    del results["full"]
    assert table_of(results, references=()).loc["das", "cost"] is not None
    assert np.isnan(table_of(results, references=()).loc["das", "cost"])


def test_a_paired_difference_is_that_of_the_means_in_the_table(results, make):
    results["das"] = make(skill=1.4, noise=1, seeds=(7,))
    table = table_of(results)
    for variant in ("das", "paper"):
        found = table.loc[variant, "auc_minus_full"]
        assert found == pytest.approx(
            table.loc[variant, "auc_mean"] - table.loc["full", "auc_mean"]
        )
        low, high = (table.loc[variant, f"auc_minus_full_{end}"] for end in ("low", "high"))
        assert low < found < high


def test_a_reference_is_not_held_against_itself(results):
    assert np.isnan(table_of(results).loc["full", "auc_minus_full"])


def test_published_figures_stand_beside_the_samplers_they_are_of(results):
    table = table_of(results, flag="adrenalmnist3d")
    assert table.loc["paper", "published_auc"] == 0.597
    assert np.isnan(table.loc["das", "published_auc"])


def test_variants_of_different_exams_are_not_compared(results, make):
    results["das"] = make(exams=54)
    with pytest.raises(DifferentExamsError, match="full and das"):
        assess_all(results, "test", SETTINGS)


def test_variants_of_different_labels_are_not_compared(results):
    results["das"]["label"] = 1 - results["das"]["label"]
    with pytest.raises(DifferentExamsError):
        assess_all(results, "test", SETTINGS)

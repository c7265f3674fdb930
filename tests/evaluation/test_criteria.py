import json
from dataclasses import replace

import numpy as np
import pytest

from keyslice.config import Promote
from keyslice.evaluation.criteria import Contender, assess
from keyslice.evaluation.criterion import HEADINGS, decided, markdown
from keyslice.evaluation.subgroups import Exams

PLAN = Promote(looks=1, resamples=1000, margin=0.1, balanced_accuracy_floor=0.5)
CLASSES = ("healthy", "lesion")


@pytest.fixture
def exams():
    """400 exams, two sites and one modality, a class of 200 patients each."""
    number = np.arange(400)
    return Exams(
        labels=number % 2,
        units=np.array([f"p{n}" for n in number], dtype=object),
        site=np.where(number < 200, "north", "south").astype(object),
        modality=np.full(400, "MR", dtype=object),
        classes=CLASSES,
    )


def contender(exams, seed=0, macs=1e6, skill=3.0, bad=None):
    """Models of one difficulty; `bad` (N,) are exams that it ranks at random."""
    common = np.random.default_rng(7).normal(size=len(exams.labels))
    rng = np.random.default_rng(seed)
    logit = common + 0.2 * rng.normal(size=len(common)) + skill * (exams.labels - 0.5)
    if bad is not None:
        logit = np.where(bad, rng.normal(size=len(logit)), logit)
    positive = 1 / (1 + np.exp(-logit))
    return Contender(np.stack([1 - positive, positive], 1), macs)


def by_name(outcome):
    return {one.name: one for one in outcome.criteria}


def blocking(outcome):
    return [one.name for one in outcome.criteria if one.blocks]


def test_an_equally_good_challenger_passes(exams):
    outcome = assess(PLAN, exams, contender(exams, 1), contender(exams, 2), None, look=1)
    assert outcome.passed
    assert outcome.warnings == ()
    assert outcome.power > 0.8
    assert [one.group for one in outcome.criteria] == [
        "primary",
        "second metric",
        "site",
        "site",
        "class",
        "class",
        "calibration",
        "cost",
        "floor",
        "floor",
    ]


def test_a_worse_challenger_fails_the_primary_criterion(exams):
    worse = contender(exams, 1, skill=0.5)
    outcome = assess(PLAN, exams, worse, contender(exams, 2), None, look=1)
    found = by_name(outcome)["AUC against the champion"]
    assert (found.outcome, found.blocks, outcome.passed) == ("fails", True, False)
    assert found.words == "The challenger is worse than the champion by more than 0.1."


def test_a_challenger_that_is_not_shown_to_be_as_good_does_not_pass(exams):
    few = Exams(*(getattr(exams, n)[:30] for n in ("labels", "units", "site", "modality")), CLASSES)
    outcome = assess(PLAN, few, contender(few, 1), contender(few, 2), None, look=1)
    assert by_name(outcome)["AUC against the champion"].outcome == "cannot tell"
    assert blocking(outcome) == ["AUC against the champion"]


def test_low_power_is_warned_of_with_a_margin_that_would_do(exams):
    plan = PLAN.model_copy(update={"margin": 0.01})
    outcome = assess(plan, exams, contender(exams, 1), contender(exams, 2), None, look=1)
    assert outcome.power < 0.8
    assert "Low power" in outcome.warnings[0]
    margin = float(outcome.warnings[0].split("with a margin of ")[1].split(",")[0])
    powers = [
        assess(
            plan.model_copy(update={"margin": one}),
            exams,
            contender(exams, 1),
            contender(exams, 2),
            None,
            look=1,
        ).power
        for one in (margin - 0.002, margin)
    ]
    assert powers[0] < 0.8 <= powers[1]


def test_the_anchor_stops_margins_from_adding_up(exams):
    """No worse than a champion that had already become worse."""
    anchor, champion = contender(exams, 2, skill=4.0), contender(exams, 3, skill=0.7)
    challenger = contender(exams, 1, skill=0.7)
    assert assess(PLAN, exams, challenger, champion, None, look=1).criteria[0].outcome == "holds"
    outcome = assess(PLAN, exams, challenger, champion, anchor, look=1)
    assert blocking(outcome)[0] == "AUC against the anchor"


def test_after_the_planned_looks_nothing_passes(exams):
    plan = PLAN.model_copy(update={"looks": 3, "alpha": 0.3})
    models = contender(exams, 1), contender(exams, 2), None
    assert assess(plan, exams, *models, look=3).passed
    outcome = assess(plan, exams, *models, look=4)
    assert blocking(outcome) == ["AUC against the champion"]
    assert "worn out" in outcome.criteria[0].words
    assert "worn out" in outcome.warnings[0]


def test_more_planned_looks_make_each_one_stricter(exams):
    models = contender(exams, 1), contender(exams, 2), None
    lows = [
        assess(PLAN.model_copy(update={"looks": looks}), exams, *models, look=1).criteria[0].low
        for looks in (1, 5)
    ]
    assert lows[1] < lows[0]


def test_the_first_model_needs_the_floors_alone(exams):
    outcome = assess(PLAN, exams, contender(exams), None, None, look=1)
    assert [one.group for one in outcome.criteria] == ["floor", "floor"]
    assert outcome.passed
    assert (outcome.power, outcome.alpha, outcome.warnings) == (None, None, ())
    guessing = contender(exams, skill=0.0)
    assert "floor of AUC" in blocking(assess(PLAN, exams, guessing, None, None, look=1))


def test_a_floor_set_to_null_is_none(exams):
    plan = PLAN.model_copy(update={"auc_floor": None, "balanced_accuracy_floor": None})
    assert assess(plan, exams, contender(exams), None, None, look=1).criteria == ()


def test_one_site_that_is_ruined_blocks_and_is_named(exams):
    ruined = contender(exams, 1, bad=exams.site == "south")
    plan = PLAN.model_copy(update={"margin": 0.4, "secondary_margin": 0.4, "class_margin": 0.4})
    outcome = assess(plan, exams, ruined, contender(exams, 2), None, look=1)
    assert "site south: AUC" in blocking(outcome)
    assert by_name(outcome)["site north: AUC"].outcome != "fails"


def test_one_class_that_is_forgotten_blocks_and_is_named(exams):
    champion = contender(exams, 2)
    forgetful = Contender(champion.probabilities * [1.0, 0.2], champion.macs)
    forgetful = Contender(
        forgetful.probabilities / forgetful.probabilities.sum(1, keepdims=True), 1e6
    )
    outcome = assess(PLAN, exams, forgetful, champion, None, look=1)
    assert "class lesion: recall" in blocking(outcome)
    assert by_name(outcome)["AUC against the champion"].outcome == "holds"


def test_a_subgroup_with_too_few_cases_is_told_of_and_blocks_nothing(exams):
    site = exams.site.copy()
    site[:6] = "island"
    outcome = assess(
        PLAN, replace(exams, site=site), contender(exams, 1), contender(exams, 2), None, look=1
    )
    found = by_name(outcome)["site island: balanced accuracy"]
    assert (found.outcome, found.blocks, found.low) == ("cannot tell", False, None)
    assert found.words == (
        "Too few cases: healthy has 3 patients, lesion has 3 patients, fewer than 10."
    )


def test_in_a_site_with_enough_of_one_class_its_share_of_right_ones_is_compared(exams):
    lonely = np.where((exams.site == "south") & (exams.labels == 1), None, exams.site)
    outcome = assess(
        PLAN, replace(exams, site=lonely), contender(exams, 1), contender(exams, 2), None, look=1
    )
    assert by_name(outcome)["site south: balanced accuracy"].outcome == "holds"


def test_exams_whose_site_is_unknown_are_in_no_subgroup(exams):
    unknown = replace(exams, site=np.where(exams.site == "south", None, exams.site))
    outcome = assess(PLAN, unknown, contender(exams, 1), contender(exams, 2), None, look=1)
    assert "site" not in {one.group for one in outcome.criteria}


def test_patients_and_not_exams_are_the_cases(exams):
    merged = replace(exams, units=np.array([f"p{n % 8}" for n in range(400)], dtype=object))
    outcome = assess(PLAN, merged, contender(exams, 1), contender(exams, 2), None, look=1)
    assert by_name(outcome)["class lesion: recall"].words == (
        "Too few cases: lesion has 4 patients, fewer than 10."
    )


def test_a_challenger_without_calibration_blocks(exams):
    champion = contender(exams, 2)
    sure = champion.probabilities**0.05
    outcome = assess(
        PLAN,
        exams,
        Contender(sure / sure.sum(1, keepdims=True), 1e6),
        champion,
        None,
        look=1,
    )
    assert blocking(outcome) == ["calibration error against the champion"]


def test_cost_is_a_ratio_with_a_limit(exams):
    champion = contender(exams, 2, macs=1e6)
    for macs, holds in ((1.5e6, True), (1.6e6, False)):
        outcome = assess(PLAN, exams, contender(exams, 1, macs=macs), champion, None, look=1)
        found = by_name(outcome)["cost per exam against the champion"]
        assert (found.outcome == "holds", found.blocks) == (holds, not holds)
        assert outcome.passed is holds


def test_exams_of_one_class_alone_cannot_tell_and_do_not_pass(exams):
    one = replace(exams, labels=np.zeros(400, dtype=int))
    outcome = assess(PLAN, one, contender(exams, 1), contender(exams, 2), None, look=1)
    assert by_name(outcome)["AUC against the champion"].outcome == "cannot tell"
    assert by_name(outcome)["floor of AUC"].blocks
    json.dumps(outcome.as_dict(), allow_nan=False)


def test_criteria_from_elsewhere_join_the_list(exams):
    outcome = assess(PLAN, exams, contender(exams), None, None, look=1)
    leak = decided("no test patient was trained on", "check", False, "2 patients were.")
    unknown = decided("drift", "drift", None, "Fewer than 5 patients.", needed=False)
    assert not outcome.joined_by([leak]).passed
    assert outcome.joined_by([unknown]).passed
    assert outcome.joined_by([leak, unknown]).criteria[-2:] == (leak, unknown)
    assert decided("package loads", "check", None, "Not tried.").blocks


def test_an_outcome_is_plain_json_with_its_cells(exams):
    outcome = assess(PLAN, exams, contender(exams, 1), contender(exams, 2), None, look=1)
    told = json.loads(json.dumps(outcome.as_dict(), allow_nan=False))
    assert told["passed"] is True
    first = told["criteria"][0]
    assert len(first["cells"]) == len(HEADINGS)
    assert first["cells"][0] == first["name"] == "AUC against the champion"
    odd = replace(outcome.criteria[0], low=float("-inf"), difference=float("nan"))
    assert odd.as_dict()["low"] is odd.as_dict()["difference"] is None


def test_markdown_has_a_row_and_a_sentence_per_criterion(exams):
    site = np.where(exams.site == "north", "a|b", exams.site)
    outcome = assess(
        PLAN, replace(exams, site=site), contender(exams, 1), contender(exams, 2), None, look=1
    )
    text = markdown(outcome.as_dict() | {"outcome": "passed"})
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == len(outcome.criteria) + 2
    assert "| site a\\|b: AUC |" in text
    assert all(one.words in text for one in outcome.criteria)


def test_the_same_plan_and_exams_give_the_same_outcome(exams):
    models = contender(exams, 1), contender(exams, 2), None
    assert assess(PLAN, exams, *models, look=1) == assess(PLAN, exams, *models, look=1)

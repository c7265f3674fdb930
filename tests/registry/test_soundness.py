"""The criteria that need no champion, on manifests and predictions that are files."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from keyslice.config import Workspace
from keyslice.evaluation import predictions
from keyslice.exams import manifest
from keyslice.provenance import ledger
from keyslice.provenance.ledger import Event
from keyslice.registry import soundness, trial
from keyslice.versioning import lock
from tests.provenance.story import PLAN, Story, digits, row


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With git and nothing else."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return Workspace(tmp_path)


@pytest.fixture
def story(workspace: Workspace) -> Story:
    return Story(workspace)


def _row(number: int, split: str, patient: str | None = None, **changes: Any) -> dict[str, Any]:
    who = digits("patient", number) if patient is None else patient
    return row(digits("exam", number), who, split=split) | changes


def _test(rows: Sequence[dict[str, Any]]) -> trial.TestSet:
    table = manifest.frame([one for one in rows if one["split"] == "test"])
    table = table.sort_values("exam_id", ignore_index=True)
    return trial.TestSet("scans", "today.dir", table, np.zeros(len(table), np.int64))


# Plan


def _plan(story: Story, version: Event, now: dict[str, Any]) -> tuple[str, bool, str]:
    found = soundness.plan(ledger.read(story.workspace), version, now)
    return found.outcome, found.blocks, found.words


def test_a_version_is_judged_by_the_plan_that_was_fixed_before_it_was_trained(
    story: Story,
) -> None:
    fixed = story.started("run1")
    words = f"fixed as event {fixed.number}, before it was trained"
    assert _plan(story, story.registered(1, "a.dir"), PLAN) == ("holds", False, words)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (PLAN | {"margin": 0.5}, "margin"),
        (PLAN | {"looks": 9, "approval": "automatic"}, "approval, looks"),
        ({"margin": PLAN["margin"]}, "approval"),
    ],
)
def test_a_plan_that_was_changed_since_fails_and_what_was_changed_is_named(
    story: Story, now: dict[str, Any], named: str
) -> None:
    story.started("run1")
    outcome, blocks, words = _plan(story, story.registered(1, "a.dir"), now)
    assert (outcome, blocks) == ("fails", True)
    assert words.startswith("changed since event")
    assert words.endswith(f": {named}")


def test_a_version_without_a_plan_fails(story: Story) -> None:
    outcome, blocks, words = _plan(story, story.registered(1, "a.dir"), PLAN)
    assert (outcome, blocks) == ("fails", True)
    assert words.startswith("no plan was fixed")


# Package

TODAY = [_row(number, "test") for number in range(3)]
STORED = np.array([[0.25, 0.75], [0.5, 0.5], [0.875, 0.125]])


def _evaluated(
    story: Story,
    exams: Sequence[str],
    *,
    here: bool = True,
    plain: Sequence[float] | None = None,
    **changes: Any,
) -> Event:
    """A version of seed 1 whose evaluation predicted these exams, and others with other seeds."""
    stage = "evaluate@scans-das"
    entries = {stage: {"cmd": "keyslice evaluate", "outs": []}}
    path = story.workspace.root / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
    os.utime(path, (0, 0))  # a young one would be waited for
    rows = [
        {
            "exam_id": exam,
            "patient": digits("patient"),
            "split": split,
            "label": 0,
            "seed": seed,
            "probabilities": STORED[n] if (seed, split) == (1, "test") else [0.0, 1.0],
            "frames": 5,
            "kept": [0, 1],
            "attention": [0.5, 0.5],
            "macs": 1.0,
            "informative": None,
            "plain_probabilities": plain,
            "plain_macs": 1.0,
        }
        for seed in (0, 1, 2)
        for split in ("test", "validation")
        for n, name in enumerate(exams)
        for exam in [name if split == "test" else digits("validation", n)]
    ]
    place = story.workspace.results("scans", "das")
    place.mkdir(parents=True)
    predictions.write(pd.DataFrame(rows), place / "predictions.parquet")
    known = (lock.hash_of(entries, stage) or "") if here else digits("an earlier evaluation")
    return story.registered(1, "a.dir", seed=1, stages={"evaluate": known}, **changes)


def _load(
    story: Story, version: Event, values: np.ndarray, plain: np.ndarray | None = None
) -> tuple[str, bool, str]:
    predicted = trial.Trial(values, np.ones(3), values if plain is None else plain)
    found = soundness.load(story.workspace, _test(TODAY), version, predicted)
    return found.outcome, found.blocks, found.words


def test_a_package_that_predicts_as_the_evaluation_did_holds(story: Story) -> None:
    version = _evaluated(story, _test(TODAY).exams)
    rounded = STORED + np.array([4e-5, -4e-5])
    words = "it predicts 3 exams as the evaluation did"
    assert _load(story, version, rounded) == ("holds", False, words)


def test_a_package_that_predicts_one_exam_otherwise_fails(story: Story) -> None:
    version = _evaluated(story, _test(TODAY).exams)
    changed = STORED.copy()
    changed[2] = [0.8, 0.2]
    outcome, blocks, words = _load(story, version, changed)
    assert (outcome, blocks) == ("fails", True)
    assert "differ by up to 0.075" in words


@pytest.mark.parametrize(
    ("test_time", "changed", "outcome"),
    [
        ({"budget": 4}, 1, "holds"),
        ({"budget": 4, "criterion": "learned"}, 1, "holds"),
        ({"budget": 4}, 2, "fails"),
        ({"budget": 4, "criterion": "random"}, 1, "fails"),
        ({"budget": 1, "views": ["flip_vertical"]}, 1, "fails"),
        ({}, 1, "fails"),
    ],
)
def test_a_search_may_go_another_way_in_an_exam_and_nothing_else_may(
    story: Story, test_time: dict[str, Any], changed: int, outcome: str
) -> None:
    settings = {"evaluate": {"batch_size": 4, "test_time": test_time}}
    version = _evaluated(story, _test(TODAY).exams, plain=[0.5, 0.5], settings=settings)
    values, once = STORED.copy(), np.full((3, 2), 0.5)
    values[:changed] += np.array([0.03, -0.03])
    found, blocks, words = _load(story, version, values, once)
    assert (found, blocks) == (outcome, outcome == "fails")
    said = "1 where its search went another way, by rounding: by up to 0.03"
    assert (said in words) == (outcome == "holds")


def test_by_one_look_a_package_that_searches_predicts_every_exam_as_the_evaluation_did(
    story: Story,
) -> None:
    settings = {"evaluate": {"batch_size": 4, "test_time": {"budget": 8}}}
    version = _evaluated(story, _test(TODAY).exams, plain=[0.5, 0.5], settings=settings)
    once = np.full((3, 2), 0.5)
    assert _load(story, version, STORED, once)[0] == "holds"
    once[1] += np.array([0.01, -0.01])
    outcome, blocks, words = _load(story, version, STORED, once)
    assert (outcome, blocks) == ("fails", True)
    assert "differ by up to 0.01" in words


@pytest.mark.parametrize(
    "wrong", [[np.nan, np.nan], [np.inf, 0.0], [0.5, 0.4], [0.75, 0.75]], ids=str
)
def test_outputs_that_are_no_probabilities_fail(story: Story, wrong: list[float]) -> None:
    version = _evaluated(story, _test(TODAY).exams, here=False)
    values = STORED.copy()
    values[1] = wrong
    assert _load(story, version, values) == ("fails", True, "its outputs are no probabilities")


@pytest.mark.parametrize("why", ["another run's", "other exams", "no file"])
def test_where_the_evaluations_predictions_are_not_here_predicting_is_enough(
    story: Story, why: str
) -> None:
    exams = [digits("other", n) for n in range(3)] if why == "other exams" else _test(TODAY).exams
    version = _evaluated(story, exams, here=why != "another run's")
    if why == "no file":
        (story.workspace.results("scans", "das") / "predictions.parquet").unlink()
    outcome, blocks, words = _load(story, version, STORED[::-1])
    assert (outcome, blocks) == ("holds", False)
    assert "not here any more" in words


# Leakage

ANNA = digits("anna")


def _leaks(story: Story, *versions: Event) -> tuple[str, bool, str]:
    today = _test([*TODAY, _row(7, "test", ANNA), _row(8, "test", "unknown")])
    found = soundness.leakage(story.workspace, today, versions)
    return found.outcome, found.blocks, found.words


def _learned(story: Story, number: int, *rows: dict[str, Any]) -> Event:
    story.version([_row(100 + number, "train"), *rows])
    return story.registered(number)


def test_versions_that_saw_test_patients_in_the_test_only_do_not_leak(story: Story) -> None:
    first = _learned(story, 1, *TODAY, _row(7, "test", ANNA))
    second = _learned(story, 2, _row(9, "train", "unknown"))
    words = "no test patient was learned from by version 2, 1"
    assert _leaks(story, second, first) == ("holds", False, words)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("whose", ["challenger", "champion"])
@pytest.mark.parametrize(
    "seen", [_row(50, "", ANNA), _row(8, "", "unknown")], ids=["patient", "exam of nobody"]
)
def test_a_test_patient_that_any_version_learned_from_fails(
    story: Story, split: str, whose: str, seen: dict[str, Any]
) -> None:
    """By another exam of the patient, or by the exam itself where nobody knows whose it is."""
    leaky = seen | {"split": split}
    champion = _learned(story, 1, *[leaky] * (whose == "champion"))
    challenger = _learned(story, 2, *[leaky] * (whose == "challenger"))
    number = {"champion": 1, "challenger": 2}[whose]
    words = f"version {number} was trained or chosen on 1 of today's test patients"
    assert _leaks(story, challenger, champion) == ("fails", True, words)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_version_whose_manifest_is_not_kept_fails(story: Story, missing: int) -> None:
    """Nobody knows whom it learned from."""
    versions = [_learned(story, number, _row(9 + number, "train")) for number in (1, 2)]
    lost = versions[missing - 1].payload["dataset_version"]
    story.workspace.kept_manifest("scans", lost).unlink()
    outcome, blocks, words = _leaks(story, *versions)
    assert (outcome, blocks) == ("fails", True)
    assert f"version {missing}'s exams is not in state/manifests" in words


# Drift


@pytest.fixture
def trained(story: Story) -> Event:
    """Trained on darker exams than those that are validated and tested on."""
    rows = [_row(n, "train", intensity_mean=n / 100) for n in range(20)]
    rows += [_row(n, "validation", intensity_mean=n / 100) for n in range(100, 120)]
    story.version([*rows, *_brighter()])
    return story.registered(1)


def _brighter() -> list[dict[str, Any]]:
    return [_row(n, "test", intensity_mean=n / 100) for n in range(100, 140)][20:]


def test_test_exams_unlike_those_trained_on_fail_above_the_limit(
    story: Story, trained: Event
) -> None:
    """Every value lies above every one of the training: the effect is 1."""
    found = soundness.drift(story.workspace, _test(_brighter()), trained, 0.9)
    assert (found.outcome, found.blocks) == ("fails", True)
    assert (found.estimate, found.margin) == (1.0, 0.9)
    assert "intensity_mean" in found.words


def test_a_shift_within_the_limit_holds_and_is_told(story: Story, trained: Event) -> None:
    found = soundness.drift(story.workspace, _test(_brighter()), trained, 1.0)
    assert (found.outcome, found.blocks, found.estimate) == ("holds", False, 1.0)
    assert found.words == "shifted: intensity_mean"


def test_test_exams_like_those_trained_on_hold(story: Story, trained: Event) -> None:
    alike = [_row(n, "test", intensity_mean=(n - 200) / 100) for n in range(200, 220)]
    found = soundness.drift(story.workspace, _test(alike), trained, 0.1)
    assert (found.outcome, found.blocks, found.estimate) == ("holds", False, 0.0)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("no limit", "no limit is set"),
        ("no manifest", "manifest is not here"),
        ("few exams", "nothing can be told"),
    ],
)
def test_drift_that_cannot_be_told_blocks_nothing(
    story: Story, trained: Event, why: str, said: str
) -> None:
    today = _brighter()[: 4 if why == "few exams" else None]
    if why == "no manifest":
        lost = trained.payload["dataset_version"]
        story.workspace.kept_manifest("scans", lost).unlink()
    limit = None if why == "no limit" else 0.1
    found = soundness.drift(story.workspace, _test(today), trained, limit)
    assert (found.outcome, found.blocks) == ("cannot tell", False)
    assert said in found.words

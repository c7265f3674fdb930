"""What a rebuilt version is called, by its weights and its predictions."""

import math
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance import events, ledger, reproduction
from keyslice.versioning.objects import Store
from tests.provenance.story import Story, digits, row

TOLD = {"model": "scans", "variant": "das", "seed": 1}
FIRST = {"a": [0.25, 0.75], "b": [0.5, 0.5]}
NAN = math.nan


@pytest.mark.parametrize(
    ("same", "difference", "outcome", "said"),
    [
        (True, 0.0, "identical", "bit for bit"),
        (True, 0.001, "equivalent", "the same weights; .* 0.001, within 0.02"),
        (False, 0.0, "equivalent", "other weights; .* 0, within 0.02"),
        (False, 0.02, "equivalent", "other weights; .* 0.02, within 0.02"),
        (False, 0.021, "different", "other weights; .* 0.021, above 0.02"),
        (True, 0.5, "different", "the same weights; .* 0.5, above 0.02"),
    ],
)
def test_only_the_same_weights_with_the_same_predictions_are_identical(
    same: bool, difference: float, outcome: str, said: str
) -> None:
    found, words = reproduction._judged(same, "", True, difference, 0.02)
    assert found == outcome
    assert re.search(said, words)


def test_a_model_that_learned_to_look_otherwise_is_not_identical() -> None:
    same = reproduction._judged(True, "c0ffee", True, 0.0, 0.02)
    told = "the same weights, the same state attention and the same predictions, bit for bit"
    assert same == ("identical", told)
    assert reproduction._judged(True, "c0ffee", False, 0.0, 0.02) == (
        "equivalent",
        "the same weights, another state attention; the largest difference of a probability is 0, "
        "within 0.02",
    )


def _write(path: Path, rows: Mapping[str, list[float]], other: float = 0.0) -> None:
    """Predictions of seed 1; other seeds have `other` in the place of all."""
    table = [
        {
            "exam_id": exam,
            "seed": seed,
            "probabilities": values if seed == 1 else [other, 1 - other],
        }
        for exam, values in rows.items()
        for seed in (0, 1, 2)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)


@pytest.fixture
def difference(workspace: Workspace, tmp_path: Path) -> Callable[..., float]:
    """`difference(first, now)`: of two evaluations, the first one known by a run's commit."""
    path = workspace.results("scans", "das") / "predictions.parquet"
    out = {"path": path.relative_to(workspace.root).as_posix(), "md5": digits("first")}
    entry = {"cmd": "evaluate", "outs": [out]}
    lock = {"schema": "2.0", "stages": {"evaluate@scans-das": entry}}
    (workspace.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    identity = ["-c", "user.name=anna", "-c", "user.email=anna@localhost"]
    for command in (["add", "dvc.lock"], [*identity, "commit", "--quiet", "-m", "a run"]):
        subprocess.run(["git", *command], cwd=workspace.root, check=True)
    cache = Store("cache", tmp_path / "cache")
    md5 = digits("first")

    def measure(first: Mapping[str, list[float]] | None, now: Mapping[str, list[float]]) -> float:
        if first is not None:
            _write(cache.root / "files/md5" / md5[:2] / md5[2:], first)
        _write(path, now, other=0.5)
        return reproduction._difference(workspace, TOLD | {"run_commit": "HEAD"}, cache)

    return measure


def test_the_same_predictions_do_not_differ_whatever_other_seeds_do(
    difference: Callable[..., float],
) -> None:
    assert difference(FIRST, dict(reversed(FIRST.items()))) == 0


def test_the_largest_difference_of_any_exam_counts(difference: Callable[..., float]) -> None:
    assert difference(FIRST, FIRST | {"b": [0.53, 0.47]}) == pytest.approx(0.03)
    assert difference(FIRST, FIRST | {"a": [0.0, 1.0]}) == 0.25


@pytest.mark.parametrize(
    ("first", "now"),
    [
        (FIRST, FIRST | {"a": [NAN, NAN]}),
        (FIRST, FIRST | {"b": [0.5, NAN]}),
        (FIRST | {"a": [NAN, NAN]}, FIRST),
        (FIRST, {"a": FIRST["a"]}),
        (FIRST, FIRST | {"c": [0.5, 0.5]}),
    ],
    ids=["NaN", "NaN in the last", "NaN before", "an exam less", "an exam more"],
)
def test_what_is_no_number_or_of_other_exams_is_as_far_off_as_can_be(
    difference: Callable[..., float],
    first: Mapping[str, list[float]],
    now: Mapping[str, list[float]],
) -> None:
    found = difference(first, now)
    assert found == 1
    assert reproduction._judged(True, "", True, found, reproduction.TOLERANCE)[0] == "different"


def test_without_the_first_predictions_nothing_is_told(difference: Callable[..., float]) -> None:
    with pytest.raises(RunError, match="not in DVC's cache; dvc pull"):
        difference(None, FIRST)


def _told(workspace: Workspace) -> list[ledger.Event]:
    return [e for e in ledger.read(workspace) if e.action == events.MODEL_REPRODUCED]


@pytest.mark.parametrize("done", [False, True])
def test_a_version_whose_exams_were_withdrawn_is_not_reproducible_and_nothing_is_rebuilt(
    workspace: Workspace, tmp_path: Path, done: bool
) -> None:
    story = Story(workspace)
    version = story.version([row(digits("exam", n), digits("patient", n)) for n in range(4)])
    story.registered(1)
    story.withdrawn([version], [1], done=done)
    found = reproduction.reproduce(workspace, "scans", 1, Store("cache", tmp_path / "cache"))
    assert (found.outcome, found.words) == (
        "not reproducible",
        "not reproducible: 2 exams withdrawn",
    )
    assert (found.difference, found.epochs, found.weights) == (None, 0, "")
    (event,) = _told(workspace)
    assert event.object == "scans/1"
    assert event.payload["outcome"] == "not reproducible"
    assert not (workspace.state / "reproductions").exists()


def test_a_withdrawal_from_another_version_hinders_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    story = Story(workspace)
    other = story.version([row(digits("exam", n), digits("patient", n)) for n in range(4)])
    story.version([row(digits("exam", n), digits("patient", n)) for n in range(3)])
    story.registered(1, run_commit=digits("nowhere"))
    story.withdrawn([other], [])
    with pytest.raises((UserError, RunError), match=digits("nowhere")):
        reproduction.reproduce(workspace, "scans", 1, Store("cache", tmp_path / "cache"))
    assert _told(workspace) == []


def test_a_version_that_the_ledger_does_not_know_is_not_rebuilt(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the ledger knows no version 7"):
        reproduction.reproduce(workspace, "scans", 7, Store("cache", tmp_path / "cache"))

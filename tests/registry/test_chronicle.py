"""Which plan a version is judged by, and what the ledger is told of runs and versions."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

from keyslice.config import Params, Workspace, load
from keyslice.provenance import canonical, events, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import chronicle
from keyslice.versioning import lock
from tests.provenance.story import Story, digits

pytestmark = pytest.mark.forked_dvc

PARAMS = Path(__file__).parents[1] / "tiny_workspace" / "params.yaml"
TRAINED, OTHER = digits("trained"), digits("another training")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With git and nothing else."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return Workspace(tmp_path)


@pytest.fixture
def params() -> Params:
    return load(PARAMS)


@pytest.fixture
def story(workspace: Workspace) -> Story:
    return Story(workspace)


def _started(story: Story, margin: float, *trained: str, about: str = "scans") -> Event:
    """A retraining begins: the plan is fixed, and these trainings are done already."""
    plan = {"margin": margin}
    payload = {"dataset": about, "run": "", "plan": plan, "plan_sha256": canonical.sha256(plan)}
    return story.tell(events.RUN_STARTED, about, payload | {"trained": [*trained]}, "anna")


def _registered(story: Story, number: int = 1, trained: str = TRAINED) -> Event:
    return story.registered(number, "a.dir", trained=trained)


def _plan(story: Story, version: Event) -> Event | None:
    return chronicle.plan_before_training(ledger.read(story.workspace), version)


def test_the_plan_that_was_fixed_last_before_the_training_counts(story: Story) -> None:
    _started(story, 0.05)
    last = _started(story, 0.02)
    assert _plan(story, _registered(story)) == last


def test_a_plan_that_was_fixed_after_the_training_is_none(story: Story) -> None:
    _started(story, 0.05, TRAINED)
    assert _plan(story, _registered(story)) is None


def test_a_plan_that_was_fixed_after_the_registration_is_none(story: Story) -> None:
    version = _registered(story)
    _started(story, 0.05)
    assert _plan(story, version) is None


def test_another_datasets_plan_is_none(story: Story) -> None:
    _started(story, 0.05, about="others")
    assert _plan(story, _registered(story)) is None


@pytest.mark.parametrize("margin", [0.02, 0.5])
def test_of_a_retraining_that_was_killed_the_attempt_counts_that_trained(
    story: Story, margin: float
) -> None:
    """Whether or not the plan was changed before the next attempt."""
    first = _started(story, 0.02)
    _started(story, margin, TRAINED)
    assert _plan(story, _registered(story)) == first


def test_of_a_retraining_that_was_killed_before_it_trained_the_next_attempt_counts(
    story: Story,
) -> None:
    _started(story, 0.02)
    second = _started(story, 0.03, OTHER)
    assert _plan(story, _registered(story)) == second


def test_a_training_that_comes_back_from_the_cache_is_as_old_as_it_was(story: Story) -> None:
    first = _started(story, 0.02)
    _started(story, 0.03, TRAINED)
    _started(story, 0.04, OTHER)
    _started(story, 0.05, OTHER)
    assert _plan(story, _registered(story)) == first


def test_a_training_that_comes_back_is_as_old_as_the_first_version_made_of_it(
    story: Story,
) -> None:
    first = _started(story, 0.02)
    _registered(story)
    _started(story, 0.5, OTHER)  # its results, by which a plan may be chosen, are known
    assert _plan(story, _registered(story, 2)) == first


def test_each_variant_has_the_plan_before_its_own_training(story: Story) -> None:
    first = _started(story, 0.02, OTHER)
    _started(story, 0.03, OTHER, TRAINED)
    assert _plan(story, _registered(story, 1)) == first
    assert _plan(story, _registered(story, 2, OTHER)) is None


def _lock(workspace: Workspace, *stages: str) -> dict[str, Any]:
    """A dvc.lock that has settled, with these stages; returns their entries."""
    entries = {name: {"cmd": f"keyslice {name}", "outs": []} for name in stages}
    path = workspace.root / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
    os.utime(path, (0, 0))  # a young one would be waited for
    return entries


def test_the_start_of_a_run_tells_every_training_of_the_dataset_also_of_variants_left_out(
    workspace: Workspace, params: Params
) -> None:
    names = ("train@tiny-das", "train@tiny-dropped")
    known = _lock(workspace, *names, "evaluate@tiny-das", "prepare@tiny", "train@others-das")
    assert "dropped" not in params.variants
    told = chronicle.run_started(workspace, params, "tiny", "run1").payload
    assert told["trained"] == sorted(str(lock.hash_of(known, name)) for name in names)
    assert told["plan"] == chronicle.plan_of(params, "tiny")
    assert told["plan_sha256"] == canonical.sha256(told["plan"])


def test_the_start_of_a_run_tells_what_dvc_would_restore_instead_of_training_it(
    workspace: Workspace, params: Params
) -> None:
    """Someone trained by `dvc repro`, looked, and put dvc.lock back before a plan was fixed."""
    entry = {"cmd": "keyslice stage train tiny das", "outs": [{"path": "a", "md5": "b"}]}
    others = {"cmd": "keyslice stage train tiny-er das", "outs": []}
    folder = workspace.root / ".dvc" / "cache" / "runs" / "ab" / "abc"
    folder.mkdir(parents=True)
    for name, content in (("1", yaml.safe_dump(entry)), ("2", yaml.safe_dump(others)), ("3", "{")):
        (folder / name).write_text(content)
    told = chronicle.run_started(workspace, params, "tiny", "run1").payload
    assert told["trained"] == [lock.hash_of({"train@tiny-das": entry}, "train@tiny-das")]


def test_the_start_of_a_run_is_noted_as_a_head_before_anything_is_trained(
    workspace: Workspace, params: Params
) -> None:
    event = chronicle.run_started(workspace, params, "tiny", "run1")
    head = json.loads((ledger.folder(workspace) / f"heads/{event.number}.json").read_text())
    assert head["hash"] == event.hash


def _version(workspace: Workspace, number: int) -> ModelVersion:
    """As MLflow returns it."""
    told = {tag: digits(name) for name, tag in chronicle.FACTS.items()}
    told |= {chronicle.FACTS["variant"]: "das", chronicle.FACTS["seed"]: "1"}
    told |= {chronicle.FACTS["validation_auc"]: "0.75"}
    results = workspace.results("tiny", "das")
    results.mkdir(parents=True, exist_ok=True)
    figures = {"seeds": {"0": {"test": {"auc": 0.5}}, "1": {"test": {"auc": 0.875}}}}
    (results / "metrics.json").write_text(json.dumps(figures))
    marks = [ModelVersionTag(*pair) for pair in told.items()]
    return ModelVersion("tiny", str(number), 0, tags=marks)


def test_a_version_is_told_of_once_and_that_an_older_one_is_challenger_again(
    workspace: Workspace, params: Params
) -> None:
    entries = _lock(workspace, "train@tiny-das")
    before = len(ledger.read(workspace))
    first = chronicle.registered(workspace, params, _version(workspace, 1))
    assert chronicle.registered(workspace, params, _version(workspace, 1)) == first
    assert first.payload["trained"] == lock.hash_of(entries, "train@tiny-das")
    assert first.payload["figures"] == {"test": {"auc": 0.875}}
    second = chronicle.registered(workspace, params, _version(workspace, 2))
    for _ in range(2):
        assert chronicle.registered(workspace, params, _version(workspace, 1)) == first
        assert standing.challenger(ledger.read(workspace), "tiny") == 1
    assert chronicle.registered(workspace, params, _version(workspace, 2)) == second
    told = [(e.action, e.object) for e in ledger.read(workspace)[before:]]
    assert told[1:] == [
        (events.MODEL_REGISTERED, "tiny/1"),
        (events.MODEL_REGISTERED, "tiny/2"),
        (events.CHALLENGER_MOVED, "tiny/1"),
        (events.CHALLENGER_MOVED, "tiny/2"),
    ]

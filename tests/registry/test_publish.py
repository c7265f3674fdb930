import subprocess
import sys

import pytest
import yaml

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.registry.mirror import Mirror
from keyslice.registry.models import models
from keyslice.registry.publish import enter, publish, published, record

pytestmark = pytest.mark.forked_dvc


def run_commits(workspace: Workspace) -> list[str]:
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/keyslice/runs"]
    told = subprocess.run(command, cwd=workspace.root, check=True, capture_output=True, text=True)
    return told.stdout.split()


def experiments(workspace: Workspace) -> list[str]:
    from keyslice.registry.client import connect

    return [one.name for one in connect(workspace).search_experiments() if one.name != "Default"]


def test_finished_results_are_registered_once_and_known_by_their_version(
    workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published(workspace, params, "tiny") is None
    numbers = {int(publish(workspace, params, "tiny").version) for _ in range(2)}
    assert numbers == {1}
    assert len(run_commits(workspace)) == 1
    assert published(workspace, params, "tiny") == 1
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://elsewhere")
    assert published(workspace, params, "tiny") is None


def test_a_version_that_is_not_that_of_the_prepared_exams_is_not_registered(
    workspace: Workspace, params: Params
) -> None:
    """As after an ingestion that was killed before DVC recorded it, and `dvc repro`."""
    pointer = workspace.pointer("tiny")
    pointer.write_text(yaml.safe_dump({"outs": [{"md5": "0ld.dir"}]}))
    with pytest.raises(UserError, match="keyslice ingest tiny"):
        publish(workspace, params, "tiny")
    assert experiments(workspace) == []


def test_exams_that_came_in_since_the_preparation_are_retrained_on(
    workspace: Workspace, params: Params
) -> None:
    (workspace.exams("tiny") / "another.npz").write_text("another")
    versioning.record_version(workspace, "tiny")
    with pytest.raises(UserError, match=r"prepare@tiny is not up to date.* keyslice retrain tiny"):
        publish(workspace, params, "tiny")
    assert experiments(workspace) == []


def test_frames_of_another_manifest_are_not_registered_whatever_dvc_has_noted(
    workspace: Workspace, params: Params
) -> None:
    """As where exams came in after stage prepare had ended and before DVC hashed them."""
    workspace.manifest("tiny").write_text("another manifest")
    versioning.record_version(workspace, "tiny")
    commit = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force"]
    subprocess.run(commit, cwd=workspace.root, check=True)
    assert versioning.stale(workspace, ["tiny"]) == []
    with pytest.raises(UserError, match=r"another manifest .*; dvc repro --force .* prepare@tiny"):
        publish(workspace, params, "tiny")
    assert experiments(workspace) == []


def test_what_changes_after_the_record_is_not_registered(
    workspace: Workspace, params: Params
) -> None:
    mirror = Mirror(workspace, "tiny")
    run_id = record(workspace, params, "tiny", mirror.begin())
    whole = workspace.params.read_text()
    workspace.params.write_text(whole.replace("epochs: 3", "epochs: 4"))
    with pytest.raises(UserError, match="stage train@tiny-das is not up to date"):
        enter(workspace, params, "tiny", run_id)
    assert models(workspace) == []


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("data/exams/tiny.dvc", "tiny is not ingested"), ("dvc.lock", "dvc repro")],
)
def test_what_is_not_finished_is_refused_before_anything_is_written(
    workspace: Workspace, params: Params, missing: str, remedy: str
) -> None:
    (workspace.root / missing).unlink()
    with pytest.raises(UserError, match=remedy):
        publish(workspace, params, "tiny")
    assert experiments(workspace) == []
    assert run_commits(workspace) == []


def test_a_tree_that_changed_while_it_was_recorded_leaves_no_commit_and_no_running_run(
    workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = workspace.root / "params.yaml"
    whole = stage.read_text()
    begin = Mirror.begin

    def changing(mirror: Mirror, lock_hash: str | None = None) -> str:
        stage.write_text(whole.replace("epochs: 3", "epochs: 4"))
        return begin(mirror, lock_hash)

    monkeypatch.setattr(Mirror, "begin", changing)
    with pytest.raises(UserError, match="stage train@tiny-das is not up to date"):
        publish(workspace, params, "tiny")
    assert run_commits(workspace) == []
    mirror = Mirror(workspace, "tiny")
    [run] = mirror.client.search_runs([mirror.experiment])
    assert run.info.status == "FAILED"
    assert models(workspace) == []


def test_a_change_after_the_results_is_seen_though_the_run_is_recorded(
    workspace: Workspace, params: Params
) -> None:
    mirror = Mirror(workspace, "tiny")
    run_id = record(workspace, params, "tiny", mirror.begin())
    before = run_commits(workspace)
    (workspace.exams("tiny") / "exam.npz").write_text("another")
    with pytest.raises(UserError, match="stage prepare@tiny is not up to date"):
        record(workspace, params, "tiny", run_id)
    assert run_commits(workspace) == before

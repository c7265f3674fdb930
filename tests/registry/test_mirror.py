import json
import shutil
from pathlib import Path

import pytest
import yaml

from keyslice import files, versioning
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance.installation import installation
from keyslice.registry import curves, tags, timings
from keyslice.registry.mirror import Mirror

VARIANTS = ("full", "uniform", "das")


def mirrored(workspace: Workspace) -> tuple[Mirror, str]:
    mirror = Mirror(workspace, "tiny")
    return mirror, mirror.complete(mirror.begin(), VARIANTS, "c0ffee")


def runs(mirror: Mirror) -> list:
    return list(mirror.client.search_runs([mirror.experiment]))


def change_lock(workspace: Workspace, *stages: str) -> None:
    file = workspace.root / "dvc.lock"
    lock = yaml.safe_load(file.read_text())
    for stage in stages:
        lock["stages"][stage]["outs"][0]["md5"] = "changed"
    file.write_text(yaml.safe_dump(lock))


def test_one_parent_and_one_run_for_each_variant_and_seed(workspace: Workspace) -> None:
    mirror, parent = mirrored(workspace)
    children = [run for run in runs(mirror) if run.info.run_id != parent]
    found = {(run.data.tags[tags.VARIANT], run.data.tags[tags.SEED]) for run in children}
    assert found == {(variant, seed) for variant in VARIANTS for seed in "01"}
    assert len(children) == 6
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}
    assert {run.info.status for run in runs(mirror)} == {"FINISHED"}


def test_the_retrainings_page_shows_the_comparison_and_why_this_candidate(
    workspace: Workspace,
) -> None:
    folder = workspace.comparison("tiny")
    table = (folder / "comparison.md").read_text()
    mirror, parent = mirrored(workspace)
    shown = mirror.client.get_run(parent).data.tags["mlflow.note.content"]
    reason = json.loads((folder / "candidate.json").read_text())["reason"]
    assert reason in shown
    assert table in shown


def test_mirroring_again_makes_no_run(workspace: Workspace) -> None:
    mirror, parent = mirrored(workspace)
    again, same = mirrored(workspace)
    assert same == parent
    assert len(runs(again)) == len(runs(mirror)) == 7


def test_a_changed_variant_gets_new_runs_and_the_others_are_linked(workspace: Workspace) -> None:
    mirror, first = mirrored(workspace)
    change_lock(workspace, "train@tiny-das", "compare@tiny")
    _, second = mirrored(workspace)
    old, new = (mirror.client.get_run(run).data.tags for run in (first, second))
    assert first != second
    for variant in VARIANTS:
        name = tags.run_tag(variant, 0)
        assert (old[name] == new[name]) == (variant != "das")
    assert len(runs(mirror)) == 7 + 1 + 2


def test_a_run_holds_parameters_final_figures_and_its_dataset(workspace: Workspace) -> None:
    mirror, parent = mirrored(workspace)
    run_id = mirror.client.get_run(parent).data.tags[tags.run_tag("das", 1)]
    run = mirror.client.get_run(run_id)
    assert run.data.params["sampler"] == "das"
    assert run.data.params["train.epochs"] == "3"
    assert run.data.metrics["test/auc"] == 0.81
    [entry] = run.inputs.dataset_inputs
    assert entry.dataset.digest == versioning.version(workspace, "tiny")


def test_a_run_tells_how_often_its_network_looks_and_how_it_learned_that(
    workspace: Workspace,
) -> None:
    file = workspace.results("tiny", "das") / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["test"]["auc_gain"] = {"mean": 0.02, "low": 0.01, "high": 0.03}
    metrics["seeds"]["1"]["test"]["auc_gain"] = 0.04
    file.write_text(json.dumps(metrics))
    settings = workspace.models("tiny", "das") / "settings.json"
    earlier = json.loads(settings.read_text())
    earlier["evaluate"]["test_time"] = {"budget": 9, "gone": 1}  # set when it was trained
    settings.write_text(json.dumps(earlier))
    mirror, parent = mirrored(workspace)
    tagged = mirror.client.get_run(parent).data
    run = mirror.client.get_run(tagged.tags[tags.run_tag("das", 1)])
    looks = {n: v for n, v in run.data.params.items() if n.startswith("evaluate.test_time.")}
    assert looks["evaluate.test_time.budget"] == "4"
    assert looks["evaluate.test_time.aggregation"] == "learned"
    assert looks["evaluate.test_time.attention.width"] == "64"
    assert "evaluate.test_time.gone" not in looks
    assert run.data.metrics["test/auc_gain"] == 0.04
    assert tagged.metrics["das/test/auc_gain/low"] == 0.01
    names = {one.path for one in mirror.client.list_artifacts(run.info.run_id)}
    assert "test_time.json" in names


def test_curves_have_one_value_per_epoch_after_live_and_final_mirroring(
    workspace: Workspace,
) -> None:
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    opened = mirror.open_run(parent, "das", 0)
    file = workspace.models("tiny", "das") / "seed-0/history.csv"
    rows = curves.read(file)
    curves.log(mirror.client, opened, rows[:2])
    mirror.complete(parent, VARIANTS, "c0ffee")
    linked = mirror.client.get_run(parent).data.tags[tags.run_tag("das", 0)]
    history = mirror.client.get_metric_history(opened, "validation_auc")
    assert linked == opened
    assert [(m.step, m.value) for m in history] == [
        (int(row["epoch"]), row["validation_auc"]) for row in rows
    ]


def test_a_follower_logs_rows_as_they_appear_and_passes_over_older_files(
    workspace: Workspace,
) -> None:
    mirror = Mirror(workspace, "tiny")
    parent, home = mirror.begin(), workspace.checkpoints("tiny", "das")
    file = home / "inputs/seed-0/history.csv"
    file.parent.mkdir(parents=True)
    file.write_text("epoch,train_loss\n0,0.5\n")
    stamp = file.stat().st_mtime

    def follower(since: float) -> curves.Follower:
        return curves.Follower(
            mirror.client, home, lambda seed: mirror.open_run(parent, "das", seed), since
        )

    late = follower(stamp + 1)
    late.poll()
    assert late.runs == {}
    live = follower(stamp - 1)
    live.poll()
    file.write_text("epoch,train_loss\n0,0.5\n1,0.25\n")
    live.poll()
    live.poll()
    history = mirror.client.get_metric_history(live.runs[0], "train_loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.5), (1, 0.25)]


def test_an_empty_or_infinite_value_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    file.write_text("epoch,train_loss,entropy\n0,inf,\n1,0.5,nan\n")
    assert curves.read(file) == [{"epoch": 0.0}, {"epoch": 1.0, "train_loss": 0.5}]


def test_no_pixels_and_no_patients_are_copied(workspace: Workspace) -> None:
    mirrored(workspace)
    names = {path.name for path in (workspace.state / "artifacts").rglob("*") if path.is_file()}
    assert "comparison.md" in names
    assert not names & {"report.html", "predictions.parquet"}


def test_runs_that_a_killed_retraining_left_are_ended(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    left = mirror.open_run(mirror.begin(), "das", 0)
    mirror.begin()
    assert mirror.client.get_run(left).info.status == "KILLED"


@pytest.fixture
def shared(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> tuple[Mirror, Mirror]:
    """Two installations with one MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace.state}/mlflow.db")
    other = shutil.copytree(workspace.root, workspace.root.parent / "other")
    return Mirror(workspace, "tiny"), Mirror(Workspace(other), "tiny")


def test_runs_of_another_installation_are_left_alone(shared: tuple[Mirror, Mirror]) -> None:
    mine, others = shared
    parent = others.begin()
    theirs = {parent, others.open_run(parent, "das", 0)}
    mine.abandon(mine.begin(), ["full"])
    mine.begin()
    for run_id in theirs:
        assert mine.client.get_run(run_id).info.status == "RUNNING"


def test_finished_trainings_of_another_installation_are_linked_and_not_written_to(
    shared: tuple[Mirror, Mirror],
) -> None:
    mine, others = shared
    theirs = others.complete(others.begin(), VARIANTS, "c0ffee")
    before = {run.info.run_id: run.to_dictionary() for run in runs(mine)}
    lock_hash = versioning.lock_hash(mine.workspace, "tiny", VARIANTS)
    own = mine.complete(mine.begin(lock_hash), VARIANTS, "decaf")
    assert own != theirs
    found = {run.info.run_id: run.to_dictionary() for run in runs(mine)}
    assert len(found) == len(before) + 1
    assert {run_id: found[run_id] for run_id in before} == before
    assert mine.begin(lock_hash) == own


def test_an_installation_keeps_its_id(workspace: Workspace, tmp_path: Path) -> None:
    assert installation(workspace) == installation(workspace)
    assert installation(workspace) != installation(Workspace(tmp_path / "other"))


def test_a_training_that_is_tried_again_goes_on_in_the_same_run(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    file = workspace.models("tiny", "das") / "seed-0/history.csv"
    for rows in (curves.read(file)[:2], curves.read(file)):
        curves.log(mirror.client, mirror.open_run(parent, "das", 0), rows)
    mirror.complete(parent, VARIANTS, "c0ffee")
    found = [run for run in runs(mirror) if run.data.tags.get(tags.VARIANT) == "das"]
    assert sorted(run.data.tags[tags.SEED] for run in found) == ["0", "1"]
    [first] = [run.info.run_id for run in found if run.data.tags[tags.SEED] == "0"]
    assert [one.step for one in mirror.client.get_metric_history(first, "epoch")] == [0, 1, 2]


def test_times_of_another_training_are_not_shown(workspace: Workspace) -> None:
    for variant in VARIANTS:
        figures = {"model": timings.key(workspace, "tiny", variant), "ms_per_exam": 1.5}
        files.write_text(workspace.timings("tiny", variant), json.dumps(figures))
    change_lock(workspace, "train@tiny-das")
    mirror, parent = mirrored(workspace)
    shown = mirror.client.get_run(parent).data.metrics
    assert shown["full/timings/ms_per_exam"] == 1.5
    assert "das/timings/ms_per_exam" not in shown
    assert timings.current(workspace, "tiny", "full") == {"ms_per_exam": 1.5}
    assert timings.current(workspace, "tiny", "das") is None


def test_a_failed_retraining_keeps_its_finished_variants(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    mirror.abandon(parent, ["full"])
    run = mirror.client.get_run(parent)
    assert run.info.status == "FAILED"
    assert tags.run_tag("full", 0) in run.data.tags
    assert tags.LOCK not in run.data.tags
    assert json.loads((workspace.models("tiny", "full") / "settings.json").read_text())


def test_runs_name_the_version_that_was_trained_on_though_there_is_a_newer_one(
    workspace: Workspace,
) -> None:
    trained_on = versioning.version(workspace, "tiny")
    (workspace.exams("tiny") / "another.npz").write_text("another")
    assert versioning.record_version(workspace, "tiny") != trained_on
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    mirror.abandon(parent, ["full"])
    for run in runs(mirror):
        assert run.data.tags[tags.VERSION] == trained_on
        assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [
            trained_on for _ in range(run.info.run_id != parent)
        ]


@pytest.mark.parametrize("address", [True, False])
def test_without_a_server_artifacts_go_to_the_state_wherever_it_is_called_from(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: bool
) -> None:
    uri = f"sqlite:///{workspace.state}/mlflow.db" if address else ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mirrored(workspace)
    assert list((workspace.state / "artifacts/tiny").rglob("comparison.md"))
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]


def test_a_deleted_experiment_is_told_with_the_way_to_restore_it(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    mirror.client.delete_experiment(mirror.experiment)
    with pytest.raises(
        UserError, match=r"experiment tiny has been deleted; .* experiments restore"
    ):
        Mirror(workspace, "tiny")

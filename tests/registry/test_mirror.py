import json
from pathlib import Path

import yaml

from keyslice.config import Workspace
from keyslice.registry import curves, tags
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
    assert entry.dataset.digest == "a09178cb203f55e06a822ebae9679cb0.dir"


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


def test_a_failed_retraining_keeps_its_finished_variants(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    mirror.abandon(parent, ["full"])
    run = mirror.client.get_run(parent)
    assert run.info.status == "FAILED"
    assert tags.run_tag("full", 0) in run.data.tags
    assert tags.LOCK not in run.data.tags
    assert json.loads((workspace.models("tiny", "full") / "settings.json").read_text())

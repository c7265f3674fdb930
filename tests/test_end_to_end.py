"""The real chain on a real workspace: files in, `keyslice retrain`, a registered model out.

Commands and stages are forked from a process that has imported the libraries; `make chaos`: each
starts on its own, as on a user's machine.
"""

import json
import os
import re
import shlex
import shutil
import sqlite3
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
import yaml

from tests import forking
from tests.conftest import forked_from
from tests.scans import PARAMS, run, write_exams

WHOLE = "KEYSLICE_CHAOS" in os.environ


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Of the user who runs `keyslice`."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The folder of the `keyslice` that the tests and DVC's stages run; see forking.py."""
    if WHOLE:
        yield Path(sys.executable).parent
        return
    folder = tmp_path_factory.mktemp("commands")
    address = str(folder / "socket")
    script = f'#!/bin/sh\nexec {shlex.join(forking.called(address))} "$@"\n'
    (folder / "keyslice").write_text(script)
    (folder / "keyslice").chmod(0o755)
    with forked_from(address, "keyslice"):
        yield folder


@pytest.fixture(scope="module")
def keyslice(commands, home, request):
    """`keyslice(root, "status")`: the command, as a user runs it."""
    # matplotlib's list of fonts takes seconds to be made.
    given = {"HOME": str(home), "MPLCONFIGDIR": matplotlib.get_configdir()}
    if not WHOLE:
        given[forking.DVC_SOCKET] = request.getfixturevalue("dvc_server")
    return lambda root, *arguments: run(root, [str(commands / "keyslice"), *arguments], **given)


@pytest.fixture(scope="module")
def workspace(clone, keyslice, commands):
    """A clone with 24 exams that has been ingested, retrained on and registered."""
    root = clone(PARAMS)
    if not WHOLE:
        stages = (root / "dvc.yaml").read_text()
        (root / "dvc.yaml").write_text(stages.replace("cmd: keyslice", f"cmd: {commands}/keyslice"))
    write_exams(root / "data" / "inbox" / "scans", range(24))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        assert run(root, command).returncode == 0
    for command in ("ingest", "retrain"):
        done = keyslice(root, command, "scans")
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return root


def test_every_stage_left_its_files(workspace):
    data = workspace / "data"
    assert (data / "exams" / "scans.dvc").is_file()
    for variant in PARAMS["variants"]:
        assert (data / "models" / "scans" / variant / "seed-1" / "model.safetensors").is_file()
        assert (data / "results" / "scans" / variant / "metrics.json").is_file()
    assert (data / "comparisons" / "scans" / "report.html").is_file()


def test_prefects_own_server_kept_to_the_workspace(workspace, home):
    with sqlite3.connect(workspace / "state" / "prefect" / "prefect.db") as database:
        assert database.execute("SELECT name FROM flow").fetchall() == [("retrain",)]
    assert list(home.iterdir()) == []


def test_half_of_the_frames_were_kept_at_half_the_cost(workspace):
    table = pd.read_csv(workspace / "data" / "comparisons" / "scans" / "comparison.csv")
    cost = table.set_index("variant")["cost"]
    assert cost["full"] == 1
    assert 0.5 <= cost["das"] <= 0.6  # lengths of 5 to 8 frames, rounded up


def test_dvc_finds_nothing_to_do_after_it(workspace):
    done = run(workspace, [sys.executable, "-m", "dvc", "status", "--json"])
    assert json.loads(done.stdout) == {}


def test_a_retraining_with_nothing_new_does_no_work_and_says_so(keyslice, workspace):
    def times():
        tops = (workspace / "data", workspace / "state" / "prefect")
        files = (path for top in tops for path in top.rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    done = keyslice(workspace, "retrain")
    assert done.returncode == 0
    assert "Nothing new" in done.stdout
    assert times() == before


def test_an_experiment_writes_its_section_and_fills_the_marked_place_in_the_readme(
    keyslice, workspace
):
    marks = "<!-- {0}: written by keyslice experiment -->\n<!-- {0}: end -->"
    readme = workspace / "README.md"
    readme.write_text(f"Before.\n\n{marks.format('scans')}\n\n{marks.format('other')}\n\nAfter.\n")
    done = keyslice(workspace, "experiment", "scans", "--test-time", "das")
    assert done.returncode == 0, done.stderr
    page = (workspace / "docs" / "results.md").read_text()
    table = pd.read_csv(workspace / "data" / "comparisons" / "scans" / "comparison.csv")
    auc = f"{table.set_index('variant')['auc_mean']['das']:.3f} ±"
    assert "12 train, 6 validation, 6 test exams" in page
    assert f"| das | {auc}" in page
    assert "## scans, looking more than once" in page
    assert (workspace / "docs" / "figures" / "scans-test-time.svg").is_file()
    text = readme.read_text()
    assert f"| das | {auc}" in text
    assert text.startswith("Before.\n\n<!-- scans: written")
    assert text.endswith(f"{marks.format('other')}\n\nAfter.\n")
    readme.unlink()
    keyslice(workspace, "experiment", "scans")
    assert not readme.exists()


def test_mlflow_has_one_parent_and_a_run_for_each_variant_and_seed(workspace):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace}/state/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "scans"]
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) - len(children) == 1
    assert len(children) == 4
    steps = client.get_metric_history(children[0].info.run_id, "validation_loss")
    assert [metric.step for metric in steps] == [0, 1]


def test_the_registered_version_names_where_it_came_from(workspace):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace}/state/mlflow.db")
    version = client.get_model_version_by_alias("scans", "challenger")
    commit = version.tags["keyslice.run_commit"]
    listed = run(workspace, ["git", "ls-tree", "-r", "--name-only", commit]).stdout.split()
    assert {"dvc.lock", "params.yaml", "data/exams/scans.dvc"} <= set(listed)
    pointer = yaml.safe_load((workspace / "data" / "exams" / "scans.dvc").read_text())
    assert version.tags["keyslice.dataset_version"] == pointer["outs"][0]["md5"]
    assert all(version.tags[f"keyslice.{name}"] for name in ("parameters", "requirements"))


def test_status_tells_the_dataset_and_the_model(keyslice, workspace):
    told = json.loads(keyslice(workspace, "status", "--json").stdout)
    assert told["datasets"]["scans"]["exams"] == 24
    assert told["datasets"]["scans"]["due"] is None
    assert [model["aliases"] for model in told["models"]] == [["challenger"]]


@pytest.fixture(scope="module")
def predicted(keyslice, workspace):
    """What `keyslice predict` tells of each file."""
    files = map(str, sorted((workspace / "data" / "inbox" / "scans").glob("*.nii.gz")))
    told = json.loads(keyslice(workspace, "predict", "--json", *files).stdout)
    return {one["file"]: one for one in told}


def test_predict_and_mlflow_give_the_same_numbers(workspace, predicted):
    import mlflow

    try:
        mlflow.set_tracking_uri(f"sqlite:///{workspace}/state/mlflow.db")
        model = mlflow.pyfunc.load_model("models:/scans@challenger")
    finally:
        mlflow.set_tracking_uri(None)  # else the environment has it, for all tests after this one
    table = model.predict(pd.DataFrame({"file": list(predicted)}))
    for one, (_, row) in zip(predicted.values(), table.iterrows(), strict=True):
        assert one["probabilities"]["bright"] == pytest.approx(row["probability.bright"], abs=1e-6)
        assert one["kept"] == list(row["kept"])


def test_a_stored_prediction_can_be_repeated_from_the_file(workspace, predicted):
    from keyslice.exams.exam import exam_id
    from keyslice.exams.opening import open_exam
    from keyslice.exams.source import Reading

    told = json.loads((workspace / "data" / "comparisons" / "scans" / "candidate.json").read_text())
    stored = pd.read_parquet(
        workspace / "data" / "results" / "scans" / told["variant"] / "predictions.parquet"
    )
    stored = stored[stored["seed"] == told["seed"]].set_index("exam_id")
    again = {exam_id(open_exam(Path(f), Reading()).frames): one for f, one in predicted.items()}
    assert set(stored.index) <= set(again)
    for exam, row in stored.iterrows():
        expected = row["probabilities"][1]
        assert again[exam]["probabilities"]["bright"] == pytest.approx(expected, abs=1e-5)
        assert again[exam]["kept"] == list(row["kept"])


def test_no_patient_id_and_no_file_name_is_in_what_was_written(workspace, tmp_path, contents):
    """Neither in the data, the state (databases, logs), DVC's cache nor in a run's commit."""
    refs = run(workspace, ["git", "for-each-ref", "--format=%(objectname)", "refs/keyslice/runs"])
    commits = refs.stdout.split()
    assert commits
    for commit in commits:
        (tmp_path / commit).mkdir()
        for command in (
            ["git", "archive", "--output", f"{tmp_path}/{commit}.tar", commit],
            ["tar", "-xf", f"{tmp_path}/{commit}.tar", "-C", f"{tmp_path}/{commit}"],
        ):
            assert run(workspace, command).returncode == 0
        (tmp_path / f"{commit}.txt").write_text(
            run(workspace, ["git", "cat-file", "commit", commit]).stdout
        )
    tops = [workspace / "data", workspace / "state", workspace / ".dvc", tmp_path]
    written = [p for top in tops for p in top.rglob("*") if p.is_file()]
    written = [p for p in written if {"inbox", "quarantine"}.isdisjoint(p.parts)]
    assert {".parquet", ".zip", ".json", ".db", ".dvc"} <= {path.suffix for path in written}
    for path in written:
        assert not re.search("Roe_Ann|MRN-", str(path))
        assert not re.search(b"Roe_Ann|MRN-", contents(path)), path


def test_more_exams_extend_the_dataset_and_are_seen_as_news(keyslice, workspace, tmp_path):
    copy = tmp_path / "grown"
    shutil.copytree(workspace, copy)
    before = pd.read_parquet(copy / "data" / "exams" / "scans" / "manifest.parquet")
    write_exams(copy / "data" / "inbox" / "scans", range(24, 27))
    told = json.loads(keyslice(copy, "ingest", "--json", "scans").stdout)
    after = pd.read_parquet(copy / "data" / "exams" / "scans" / "manifest.parquet")
    assert told["report"]["accepted"] == 3
    assert told["version"] != told["previous"]
    kept = after.set_index("exam_id").loc[before["exam_id"]]
    assert kept["split"].tolist() == before["split"].tolist()
    due = json.loads(keyslice(copy, "status", "--json").stdout)["datasets"]["scans"]["due"]
    assert "out of date" in due


def test_a_model_that_passed_the_floors_is_approved_and_all_behind_it_is_sound(keyslice, workspace):
    approved = keyslice(workspace, "approve", "scans", "1", "--reason", "the first", "--json")
    assert json.loads(approved.stdout)["champion"] == 1, approved.stderr
    told = json.loads(keyslice(workspace, "verify", "scans@champion", "--json").stdout)
    assert told["sound"]
    assert {item["state"] for item in told["items"]} == {"sound"}
    shard = next((workspace / "data" / "prepared" / "scans").rglob("*.npy"))
    content, state = shard.read_bytes(), shard.stat()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    done = keyslice(workspace, "verify", "scans", "--json")
    shard.write_bytes(content)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert done.returncode == 1
    faults = [one for one in json.loads(done.stdout)["items"] if one["state"] != "sound"]
    assert [Path(one["what"]).name for one in faults] == [shard.name]


def test_the_audit_of_a_first_model_is_a_page(keyslice, workspace, tmp_path):
    page = tmp_path / "audit.html"
    done = keyslice(workspace, "audit", "scans/1", "--no-verify", "--output", str(page))
    assert done.returncode == 0, done.stderr
    assert "there was no champion to be held against" in page.read_text()


def test_a_patient_is_found_in_every_model_made_from_them_and_whether_one_was_champion(
    keyslice, workspace
):
    told = keyslice(workspace, "lineage", "--patient", "MRN-00003")
    assert "model versions made from it: 1" in told.stdout
    assert re.search(r"version 1 .* now +promotion", told.stdout)


@pytest.mark.skipif(not WHOLE, reason="trains anew: make chaos")
def test_a_version_is_rebuilt_bit_for_bit_and_a_training_really_ran(keyslice, workspace):
    done = keyslice(workspace, "reproduce", "scans", "1", "--json")
    told = json.loads(done.stdout)
    assert told["outcome"] == "identical", told
    assert told["epochs"] == PARAMS["train"]["epochs"]
    left = run(workspace, ["git", "worktree", "list"]).stdout.splitlines()
    assert len(left) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retrain", "scan"), "unknown dataset 'scan'; a dataset is named under `datasets`"),
        (("ingest", "nothing"), "unknown dataset 'nothing'"),
        (("stage", "train", "scans", "dass"), "did you mean 'das'?"),
        (
            ("predict", "--version", "99", "data/inbox/scans/Roe_Ann_00.nii.gz"),
            "'99' is registered",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(keyslice, workspace, arguments, said):
    done = keyslice(workspace, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_another_candidate_is_held_against_the_champion_through_the_gate(keyslice, workspace):
    """Last: the workspace moves on. Only stage compare runs anew, and puts `full` forward."""
    if not json.loads(keyslice(workspace, "champion", "scans", "--json").stdout):
        keyslice(workspace, "approve", "scans", "1", "--reason", "the first")
    params = PARAMS | {"compare": PARAMS["compare"] | {"candidates": ["full"]}}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    done = keyslice(workspace, "retrain", "scans", "--json")
    assert json.loads(done.stdout)["scans"]["model_version"] == 2, done.stderr
    found = [json.loads(line) for line in (workspace / "state/ledger/events.jsonl").open()]
    [first, gate] = [e["payload"] for e in found if e["action"] == "gate.evaluated"]
    assert (first["champion"], first["look"]) == (None, 0)
    assert (gate["champion"], gate["anchor"], gate["look"]) == (1, 1, 1)
    outcomes = {one["name"]: one["outcome"] for one in gate["criteria"]}
    # Its training is older than this run, and so is the plan.
    assert [outcomes[name] for name in ("plan", "package", "leakage")] == ["holds"] * 3
    # Six test exams show nothing about a margin of 0.05; and it costs twice as much.
    blocking = {one["name"] for one in gate["criteria"] if one["blocks"]}
    assert blocking >= {"AUC against the champion", "cost per exam against the champion"}
    assert gate["power"] < 0.8
    assert "Low power" in " ".join(gate["warnings"])
    refused = keyslice(workspace, "approve", "scans", "2", "--reason", "fine")
    assert refused.returncode == 2
    assert "the gate failed" in refused.stderr
    again = keyslice(workspace, "gate", "scans", "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["look"] == 1  # the same question is no other look
    forced = keyslice(workspace, "approve", "scans", "2", "--reason", "seen", "--override")
    assert forced.returncode == 0, forced.stderr
    back = keyslice(workspace, "rollback", "scans", "--reason", "too slow")
    assert "version 1 again" in back.stdout
    told = json.loads(keyslice(workspace, "champion", "scans", "--json").stdout)
    assert [one["version"] for one in told] == [1, 2, 1]
    difference = keyslice(workspace, "lineage", "scans/2", "--against", "1").stdout
    assert "the same dataset version" in difference
    assert "das → full" in difference


def test_exams_that_come_and_a_patient_who_withdraws_alter_nothing_that_is_told(
    keyslice, workspace
):
    """Last of all: the data moves on, what was made of the patient is gone, and all is sound."""
    write_exams(workspace / "data" / "inbox" / "scans", range(24, 27))
    assert keyslice(workspace, "ingest", "scans").returncode == 0
    asked = ("withdraw", "--patient", "MRN-00003", "--reason", "asked", "--yes")
    assert keyslice(workspace, *asked).returncode == 0
    told = json.loads(keyslice(workspace, "verify", "scans@challenger", "--json").stdout)
    assert [one for one in told["items"] if one["state"] != "sound"] == []
    assert not [*(workspace / "data" / "prepared" / "scans").glob("store.json")]
    pointer = workspace / "data" / "exams" / "scans.dvc"
    barred = workspace / "state" / "ledger" / "barred" / "scans.txt"
    text, listed = pointer.read_text(), barred.read_text()
    pointer.write_text(re.sub(r"md5: .", "md5: f" if "md5: f" not in text else "md5: e", text))
    barred.write_text("")
    told = json.loads(keyslice(workspace, "verify", "scans@challenger", "--json").stdout)
    pointer.write_text(text)
    barred.write_text(listed)
    assert {one["what"] for one in told["items"] if one["state"] != "sound"} == {
        "data/exams/scans.dvc",
        "state/ledger/barred/scans.txt",
    }

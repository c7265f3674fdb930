import json
import os
from collections.abc import Callable

import pytest

from keyslice.audit.content import FORMAT, content
from keyslice.audit.figures import figures
from keyslice.audit.page import render
from keyslice.audit.subject import Subject, subject
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.evaluation.summary import summarise
from keyslice.provenance import events, ledger
from keyslice.provenance.evidence import Item

Audited = Callable[[Workspace], Subject]


def test_the_figures_are_those_of_the_evaluation_for_the_versions_own_seed(
    workspace: Workspace, audited: Audited
) -> None:
    one = audited(workspace)
    table = predictions.read(workspace.results("scans", "das") / "predictions.parquet")
    own = summarise(table[table["seed"] == 0], ["clear", "nodule"], one.settings.evaluate)
    found = content(one, None)["evaluation"]
    for split in ("validation", "test"):
        for name in ("auc", "balanced_accuracy", "accuracy", "brier"):
            told = found["splits"][split]["figures"][name]
            expected = own[split][name]
            assert (told["value"], told["low"], told["high"]) == pytest.approx(
                (expected["mean"], expected["low"], expected["high"])
            )
    assert (
        found["all_seeds"]["accuracy"]["mean"]
        > found["splits"]["test"]["figures"]["accuracy"]["value"]
    )


def test_how_often_the_version_looks_is_told_and_what_it_learned_for_that(
    workspace: Workspace, audited: Audited
) -> None:
    one = audited(workspace)
    told = content(one, None)
    assert told["identity"]["looks"] == "once"
    assert "state attention" not in told["identity"]["hashes"]
    assert "test_time" not in told["training"]["settings"]
    settings = one.registered.payload["settings"]
    often = {"budget": 4, "aggregation": "learned", "layers": ["a.conv", "b.conv"]}
    settings = settings | {"evaluate": settings["evaluate"] | {"test_time": often}}
    learned = {"version": 2, "settings": settings, "state_attention": "5" * 64}
    ledger.append(
        workspace, events.MODEL_REGISTERED, "scans/2", {**one.registered.payload, **learned}
    )
    other = subject(workspace, "scans", 2)
    told = content(other, None)
    assert told["identity"]["hashes"]["state attention"] == "5" * 64
    assert told["training"]["settings"]["test_time"] == often
    assert "test_time" not in told["training"]["settings"]["evaluate"]
    page = render(told, figures(other, told))
    assert (
        "at 4 states of the layers a.conv, b.conv, the most certain first, weighted by learned "
        "attention"
    ) in page
    assert "5" * 64 in page


def test_recalls_and_confusion_count_the_same_exams(workspace: Workspace, audited: Audited) -> None:
    found = content(audited(workspace), None)["evaluation"]
    # Of the tests 14 to 29, the first seed takes 15 and 25 (nodules), and 20 (clear) for the other.
    assert found["confusion"] == [[7, 1], [2, 6]]
    assert [one["recall"]["value"] for one in found["recalls"]] == pytest.approx([7 / 8, 6 / 8])
    assert found["on_test"]["nodule"]["sensitivity"]["value"] == pytest.approx(6 / 8)
    assert found["on_test"]["nodule"]["specificity"]["value"] == pytest.approx(7 / 8)
    assert sum(bin_["exams"] for bin_ in found["calibration"]) == 16


def test_of_a_small_subgroup_the_counts_alone_are_told(
    workspace: Workspace, audited: Audited
) -> None:
    north, south = content(audited(workspace), None)["evaluation"]["subgroups"]["site"]
    assert (north["exams"], north["figures"]["auc"]["value"] is not None) == (13, True)
    assert (south["exams"], south["patients"], south["figures"]) == (3, 3, None)


def test_counts_and_origin_are_the_manifests(workspace: Workspace, audited: Audited) -> None:
    data = content(audited(workspace), None)["data"]
    assert data["counts"]["splits"]["test"] == {
        "exams": 16, "patients": 16, "labels": {"clear": 8, "nodule": 8}
    }  # fmt: skip
    assert data["years"] == {"first": "2024", "last": "2024", "known": 30}
    assert data["quarantine"] == {"unreadable": 1}
    assert data["groups"]["label_source"][0]["name"] == "column finding"


def test_the_versions_that_it_started_from_are_told_with_who_has_withdrawn_from_them(
    workspace: Workspace, audited: Audited
) -> None:
    assert content(audited(workspace), None)["training"]["line"] == []
    registered = audited(workspace).registered.payload
    told = {**registered, "version": 2, "started_from": "scans/1", "dataset_version": "new.dir"}
    ledger.append(workspace, events.MODEL_REGISTERED, "scans/2", told)
    gone = {"withdrawal": "w", "dataset": "scans", "erased": [], "models": [1, 2], "exams": 3}
    gone |= {"versions": {registered["dataset_version"]: 3}, "reason": "asked for it"}
    ledger.append(workspace, events.WITHDRAWAL_BEGUN, "scans", gone)
    one = subject(workspace, "scans", 2)
    found = content(one, None)["training"]
    assert found["initial"] == "scans/1"
    assert [(line["version"], line["withdrawn_exams"]) for line in found["line"]] == [(1, 3)]
    told = content(one, None)
    page = render(told, figures(one, told))
    assert "It started from version 1, of whose data 3 exams have been withdrawn" in page


def test_once_the_workspace_has_moved_on_the_ledgers_figures_are_left(
    workspace: Workspace, audited: Audited
) -> None:
    lock = workspace.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("cmd: train", "cmd: x").replace("cmd: eval", "cmd: y"))
    os.utime(lock, (1e9, 1e9))
    found = content(audited(workspace), None)
    assert found["training"]["curves"] is None
    assert found["training"]["warnings"] is None
    assert found["evaluation"]["from"] == "ledger"
    assert found["evaluation"]["splits"]["test"]["figures"]["auc"]["value"] == 0.81
    assert found["evaluation"]["subgroups"] is None


def test_curves_and_warnings_come_from_the_trainings_that_are_here(
    workspace: Workspace, audited: Audited
) -> None:
    training = content(audited(workspace), None)["training"]
    assert training["curves"]["1"]["validation_auc"] == [0.6, 0.8]
    assert training["curves"]["1"]["best"] == 1
    assert training["warnings"] == [{"seed": 1, "text": "the loss rose"}]


def test_a_gate_that_judged_by_another_plan_is_told(workspace: Workspace, audited: Audited) -> None:
    assert content(audited(workspace), None)["gate"]["plan_matches"] is True
    last = [e for e in ledger.read(workspace) if e.action == events.GATE_EVALUATED][-1]
    other = dict(last.payload) | {"plan_sha256": "0" * 64}
    ledger.append(workspace, events.GATE_EVALUATED, "scans/1", other)
    found = content(audited(workspace), None)["gate"]
    assert found["plan_matches"] is False
    assert len(found["all"]) == 2


def test_a_withdrawal_from_its_data_is_told_without_who(
    workspace: Workspace, audited: Audited
) -> None:
    version = audited(workspace).told["dataset_version"]
    told = {
        "withdrawal": "1f", "dataset": "scans", "reason": "asked for", "exams": 2,
        "versions": {version: 2}, "models": [1], "champion": True, "erased": [],
    }  # fmt: skip
    ledger.append(workspace, events.WITHDRAWAL_BEGUN, "scans", told)
    found = content(audited(workspace), None)
    assert found["data"]["withdrawn_exams"] == 2
    [one] = found["data"]["withdrawals"]
    assert (one["of_this_version"], one["completed"]) == (2, False)
    assert found["ledger"]["events"][-1]["action"] == events.WITHDRAWAL_BEGUN


def test_files_at_fault_are_counted_and_not_named(workspace: Workspace, audited: Audited) -> None:
    faults = [
        Item("data", "data/exams/scans/roe_ann.nii", "altered", "it does not belong there"),
        Item("data", "data/exams/scans/doe_jane.nii", "altered", "it does not belong there"),
        Item("package", "weights", "missing", f"not at {workspace.root}/state"),
    ]
    found = content(audited(workspace), faults)["verification"]
    assert not found["sound"]
    assert found["states"] == {"sound": 0, "altered": 2, "missing": 1, "unseen": 0}
    assert {(one["what"], one["detail"]) for one in found["items"]} == {
        ("weights", "not at …/state"),
        ("2 files", "it does not belong there"),
    }


def test_it_is_json_without_nan_and_names_its_format(
    workspace: Workspace, bare: Workspace, audited: Audited
) -> None:
    told = content(audited(workspace), [])
    assert told["format"] == FORMAT
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_of_a_bare_registration_nothing_is_made_up(bare: Workspace, audited: Audited) -> None:
    found = content(audited(bare), None)
    assert found["identity"]["intended_use"] is None
    assert not found["identity"]["package_readable"]
    assert found["data"]["counts"] is None
    assert found["gate"]["last"] is None
    assert found["gate"]["plan"] is not None  # it was fixed before
    assert found["decisions"]["decisions"] == []


def test_a_version_that_nobody_registered_has_no_audit(bare: Workspace) -> None:
    with pytest.raises(UserError, match="scans/7"):
        subject(bare, "scans", 7)

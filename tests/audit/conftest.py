"""A registered version: kept manifest, results, ledger, as the stages and commands leave them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from keyslice import versioning
from keyslice.audit import subject as subjects
from keyslice.audit.subject import Subject
from keyslice.config import Workspace, load
from keyslice.evaluation import predictions
from keyslice.exams import manifest
from keyslice.provenance import canonical, events, ledger
from keyslice.registry import chronicle
from keyslice.versioning import lock, objects

VERSION = "ab" * 16 + ".dir"
SITES = ("North clinic", "South <clinic>")
PARAMS = {
    "datasets": {
        "scans": {"source": "folder", "identifiers": "public", "classes": ["clear", "nodule"]}
    },
    "variants": {"das": {"sampler": "das", "keep": 0.5}},
    "prepare": {},
    "backbone": {"name": "test_resnet", "weights": "none"},
    "model": {},
    "train": {"seeds": [0, 1], "epochs": 3},
    "evaluate": {"resamples": 40},
    "compare": {"references": ["das"]},
}
PACKAGE = {
    "intended_use": "",
    "thresholds": {
        "chosen_on": "validation",
        "rule": "a rule",
        "classes": {
            "nodule": {
                "threshold": 0.5,
                "sensitivity": 0.9,
                "specificity": 0.8,
                "positives": 6,
                "negatives": 6,
            }
        },
    },
    "training": {"started_from": {"source": "none", "sha256": None}, "device": "cpu"},
    "packaged_with": {"python": "3.11.7", "keyslice": "0.1.0", "torch": "2", "timm": "1"},
}


def exams() -> list[dict[str, Any]]:
    """Thirty of thirty patients: 8 for training, 6 for validation, 16 for testing.

    Of the tests 13 are of the first site and 3 of the second.
    """
    splits = ["train"] * 8 + ["validation"] * 6 + ["test"] * 16
    return [
        {
            "exam_id": f"{number:032x}",
            "patient": f"{number + 1000:032x}",
            "label": PARAMS["datasets"]["scans"]["classes"][number % 2],
            "split": split,
            "batch": "0001",
            "frames": 6,
            "height": 20,
            "width": 24,
            "channels": 1,
            "dtype": "uint8",
            "modality": "CT",
            "site": SITES[number > 26],
            "acquired": f"2024-03-{number + 1:02}",
            "source_format": "nifti",
            "sha256": "0" * 64,
            "label_source": "doe_jane.csv:finding",
            "labeller": "unknown",
            "informative": None,
            "frame_spacing": 4.0,
            "row_spacing": None,
            "column_spacing": None,
            "frame_time": None,
            "facts": "{}",
            "difference_hash": "0" * 48,
            "constant_frames": 0,
            "intensity_mean": 1.0,
            "intensity_sd": 1.0,
            "intensity_low": 0.0,
            "intensity_high": 2.0,
        }
        for number, split in enumerate(splits)
    ]


def predicted(seed: int) -> list[dict[str, Any]]:
    """By the first seed every fifth exam is taken for the other class, by the second none."""
    rows = []
    for number, exam in enumerate(exams()):
        if exam["split"] == "train":
            continue
        label = number % 2
        given = 1 - label if seed == 0 and number % 5 == 0 else label
        right = 0.6 + 0.3 * (number / 30)
        rows.append(
            {name: exam[name] for name in ("exam_id", "patient", "split", "frames")}
            | {
                "label": label,
                "seed": seed,
                "probabilities": [right, 1 - right] if given == 0 else [1 - right, right],
                "kept": np.array([0, 1]),
                "attention": np.array([0.5, 0.5]),
                "macs": 1.0,
                "informative": None,
            }
        )
    return rows


def write_lock(workspace: Workspace, stages: dict[str, Any]) -> None:
    """Old enough that nobody waits for DVC to end writing it."""
    path = workspace.root / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Version 1 is registered, and nothing else is left: no package, results, manifest or gate."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    workspace = Workspace(tmp_path)
    stages = {
        f"{kind}@scans{name}": {"cmd": kind}
        for kind, name in (
            ("prepare", ""), ("train", "-das"), ("evaluate", "-das"), ("compare", "")
        )
    }  # fmt: skip
    write_lock(workspace, stages)
    params = load(workspace.params)
    monkeypatch.setattr(objects, "settings", lambda _: {})  # DVC's; asking it takes a second
    chronicle.run_started(workspace, params, "scans", "")
    told = {
        "model": "scans",
        "version": 1,
        "dataset_version": VERSION,
        "manifest": "cd" * 32,
        "variant": "das",
        "seed": 0,
        "validation_auc": 0.9,
        "settings": params.stage("scans", "das").model_dump(mode="json"),
        "classes": ["clear", "nodule"],
        "figures": {"test": {"auc": 0.81, "brier": 0.3}, "validation": {"auc": 0.9}},
        "trained": "a training after the plan",
        "keyslice": "0.1.0",
        "run_commit": "c0ffee" * 6 + "c0ff",
    }
    told |= dict.fromkeys(
        ("run", "training_run", "parameters", "weights", "package", "artifact", "requirements",
         "identity"), ""
    )  # fmt: skip
    told["stages"] = {
        kind: versioning.stage_hash(workspace, name)
        for kind, name in lock.stages_of(told["model"], told["variant"]).items()
    }
    ledger.append(workspace, events.MODEL_REGISTERED, "scans/1", told)
    return workspace


@pytest.fixture
def workspace(bare: Workspace, write_package: Callable[..., None], tmp_path: Path) -> Workspace:
    """All that an audit can show is there but an intended use, and drift."""
    counts = {"exams": 30, "patients": 30, "splits": {"train": 8, "validation": 6, "test": 16}}
    told = {"dataset": "scans", "version": VERSION, "previous": None, "manifest": "cd" * 32}
    told |= counts | {"labels": {"clear": 15, "nodule": 15}}
    ledger.append(bare, events.DATASET_VERSIONED, f"scans@{VERSION}", told)
    table = manifest.frame(exams())
    bare.kept_manifest("scans", VERSION).parent.mkdir(parents=True)
    manifest.write(table, bare.kept_manifest("scans", VERSION), {"identifiers": "public"})
    rows = [row for seed in (0, 1) for row in predicted(seed)]
    bare.results("scans", "das").mkdir(parents=True)
    predictions.write(pd.DataFrame(rows), bare.results("scans", "das") / "predictions.parquet")
    for seed in (0, 1):
        folder = bare.models("scans", "das") / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "history.csv").write_text(
            "epoch,train_loss,validation_loss,validation_auc\n0,1.0,0.9,0.6\n1,0.5,0.7,0.8\n"
        )
        summary = {"best_epoch": 1, "warnings": ["the loss rose"] * seed}
        (folder / "summary.json").write_text(json.dumps(summary))
    quarantine = bare.quarantine("scans")
    quarantine.parent.mkdir(parents=True)
    quarantine.write_text(
        "file,reason,kind,first_seen,exam\nroe_ann.nii,broken,unreadable,2026-11-01,\n"
    )
    write_package()
    _judged(bare)
    return bare


def _judged(workspace: Workspace) -> None:
    """It failed the gate, was approved all the same, became champion, and was rebuilt."""
    plan = chronicle.plan_of(load(workspace.params), "scans")
    criterion = {
        "name": "AUC floor",
        "group": "floor",
        "cells": ["AUC floor", "0.500", "–", "–", "0.600"],
        "outcome": "fails",
        "blocks": True,
        "words": "0.5 is below the floor of 0.6.",
    }
    gate = {
        "model": "scans",
        "version": 1,
        "outcome": "failed",
        "plan_sha256": canonical.sha256(plan),
        "dataset_version": VERSION,
        "test": "ef" * 32,
        "test_exams": 16,
        "look": 1,
        "looks": 20,
        "alpha": 0.0025,
        "champion": None,
        "anchor": None,
        "approval": "required",
        "criteria": [criterion],
        "power": 0.4,
        "warnings": ["Low power."],
    }
    judged = ledger.append(workspace, events.GATE_EVALUATED, "scans/1", gate)
    approval = {
        "model": "scans",
        "version": 1,
        "reason": "readers <accept> it",
        "gate": judged.number,
        "override": ["AUC floor"],
        "signature": None,
    }
    decided = ledger.append(workspace, events.MODEL_APPROVED, "scans/1", approval, by="anna")
    move = {
        "model": "scans",
        "from": None,
        "to": 1,
        "because": "promotion",
        "decision": decided.number,
        "reason": "",
        "intent": decided.number,
    }
    ledger.append(workspace, events.CHAMPION_MOVED, "scans", move)
    rebuilt = {"model": "scans", "version": 1, "outcome": "identical", "words": "bit for bit"}
    rebuilt |= {"difference": 0.0, "epochs": 6, "platform": "Linux", "libraries": []}
    ledger.append(workspace, events.MODEL_REPRODUCED, "scans/1", rebuilt)


@pytest.fixture
def write_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """`write_package(intended_use=…)`: what the registry gives as the version's package."""

    def write(**changed: Any) -> None:
        folder = tmp_path / "package"
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text(json.dumps(PACKAGE | changed))
        monkeypatch.setattr(subjects.models, "download", lambda *_: folder)

    return write


@pytest.fixture
def audited() -> Callable[[Workspace], Subject]:
    """`audited(workspace)`: its version 1."""
    return lambda workspace: subjects.subject(workspace, "scans", 1)

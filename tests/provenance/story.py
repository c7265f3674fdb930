"""Events as a life of a dataset and its models would leave them, with manifests that are real."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from keyslice.config import Workspace
from keyslice.exams import manifest
from keyslice.provenance import canonical, events, ledger
from keyslice.provenance.ledger import Event

PLAN = {"approval": "required", "margin": 0.02}


def digits(*words: object) -> str:
    """32 hex digits that stand for something."""
    return hashlib.md5(repr(words).encode(), usedforsecurity=False).hexdigest()


def sha256(*words: object) -> str:
    return digits(*words) + digits("more", *words)


def row(exam: str, patient: str, label: str = "no", split: str = "train") -> dict[str, Any]:
    """Of a manifest; exam and patient are hex digits."""
    return {
        "exam_id": exam,
        "patient": patient,
        "label": label,
        "split": split,
        "batch": "0001",
        "frames": 5,
        "height": 7,
        "width": 6,
        "channels": 1,
        "dtype": "int16",
        "modality": "CT",
        "site": "unknown",
        "acquired": "unknown",
        "source_format": "nifti",
        "sha256": exam + exam,
        "label_source": "labels.csv:label",
        "labeller": "unknown",
        "facts": "{}",
        "difference_hash": (exam + exam)[:48],
        "constant_frames": 0,
        "intensity_mean": 1.0,
        "intensity_sd": 2.0,
        "intensity_low": 0.0,
        "intensity_high": 5.0,
    }


class Story:
    """Tells a workspace's ledger what happens, and keeps the manifests."""

    def __init__(self, workspace: Workspace, dataset: str = "scans") -> None:
        self.workspace = workspace
        self.dataset = dataset
        self.last: str | None = None
        self.champion: int | None = None

    def tell(self, action: str, about: str, payload: dict[str, Any], by: str) -> Event:
        return ledger.append(self.workspace, action, about, payload, by=by)

    def keep(self, table: pd.DataFrame, version: str) -> str:
        path = self.workspace.kept_manifest(self.dataset, version)
        manifest.write(table, path, {"source": "folder"})
        return manifest.version_hash(path)

    def version(self, rows: Sequence[dict[str, Any]] | pd.DataFrame, *, kept: bool = True) -> str:
        """Record a version of the dataset; returns its name."""
        table = rows if isinstance(rows, pd.DataFrame) else manifest.frame(list(rows))
        columns = ["exam_id", "label", "split"]
        version = digits(table[columns].to_csv()) + ".dir"
        payload = {
            "dataset": self.dataset,
            "version": version,
            "previous": self.last,
            "manifest": self.keep(table, version) if kept else sha256(version),
            "exams": len(table),
            "patients": table["patient"].nunique(),
            "splits": {k: int(v) for k, v in table["split"].value_counts().items()},
            "labels": {k: int(v) for k, v in table["label"].value_counts().items()},
        }
        about = f"{self.dataset}@{version}"
        self.tell(events.DATASET_VERSIONED, about, payload, "ingester")
        self.last = version
        return version

    def started(self, run: str, plan: dict[str, Any] | None = None, by: str = "anna") -> Event:
        plan = plan or PLAN
        payload = {
            "dataset": self.dataset,
            "run": run,
            "plan": plan,
            "plan_sha256": canonical.sha256(plan),
            "dataset_version": self.last,
            "trained": [],
        }
        return self.tell(events.RUN_STARTED, self.dataset, payload, by)

    def registered(self, number: int, version: str | None = None, **changes: Any) -> Event:
        """Register a version of the model, made from a version of the dataset."""
        payload = {
            "model": self.dataset,
            "version": number,
            "dataset_version": version or self.last,
            "manifest": sha256("manifest", version or self.last),
            "variant": "das",
            "seed": 0,
            "run": f"run{number}",
            "training_run": f"training{number}",
            "run_commit": "",
            "parameters": sha256("parameters"),
            "weights": sha256("weights", number),
            "package": sha256("package", number),
            "requirements": sha256("requirements"),
            "stages": {"prepare": digits("prepare"), "train": digits("train", number)},
            "settings": {"keep": 0.5, "train": {"epochs": 8, "seeds": [0, 1]}},
            "classes": ["no", "yes"],
            "validation_auc": 0.9,
            "figures": {"test": {"auc": 0.875, "balanced_accuracy": 0.75}},
            "identity": sha256("identity", number),
            "keyslice": "0.1.0",
            "trained": digits("train", number),
        } | changes
        about = events.named(self.dataset, number)
        return self.tell(events.MODEL_REGISTERED, about, payload, "anna")

    def gate(self, number: int, failed: Sequence[str] = (), **changes: Any) -> Event:
        criteria = [{"name": "auc", "group": "primary", "blocks": "auc" in failed}]
        criteria += [
            {"name": name, "group": "floor", "blocks": True} for name in failed if name != "auc"
        ]
        payload = {
            "model": self.dataset,
            "version": number,
            "outcome": "failed" if failed else "passed",
            "plan_sha256": canonical.sha256(PLAN),
            "dataset_version": self.last,
            "test": sha256("test"),
            "test_exams": 12,
            "look": 1,
            "looks": 30,
            "alpha": 0.01,
            "champion": self.champion,
            "anchor": self.champion,
            "approval": "required",
            "criteria": criteria,
            "power": 0.8,
            "warnings": [],
        } | changes
        about = events.named(self.dataset, number)
        return self.tell(events.GATE_EVALUATED, about, payload, "anna")

    def decided(
        self,
        number: int,
        gate: Event,
        reason: str = "good",
        *,
        approved: bool = True,
        override: Sequence[str] = (),
        by: str = "bert",
    ) -> Event:
        payload = {
            "model": self.dataset,
            "version": number,
            "reason": reason,
            "gate": gate.number,
            "override": list(override),
            "signature": None,
        }
        action = events.MODEL_APPROVED if approved else events.MODEL_REJECTED
        return self.tell(action, events.named(self.dataset, number), payload, by)

    def moved(self, to: int | None, decision: Event | None = None, because: str = "") -> Event:
        payload = {
            "model": self.dataset,
            "from": self.champion,
            "to": to,
            "because": because or ("promotion" if decision else "rollback"),
            "decision": decision and decision.number,
            "reason": "",
        }
        intent = self.tell(events.CHAMPION_MOVING, self.dataset, payload, "bert")
        payload["intent"] = intent.number
        self.champion = to
        return self.tell(events.CHAMPION_MOVED, self.dataset, payload, "bert")

    def promoted(self, number: int) -> Event:
        """The whole way of a version from the gate to champion."""
        return self.moved(number, self.decided(number, self.gate(number)))

    def withdrawn(
        self, versions: Sequence[str], models: Sequence[int], *, done: bool = True
    ) -> Event:
        payload = {
            "withdrawal": digits("withdrawal", len(ledger.read(self.workspace))),
            "dataset": self.dataset,
            "reason": "asked for it",
            "exams": 2,
            "versions": dict.fromkeys(versions, 2),
            "models": list(models),
            "champion": self.champion in models,
            "erased": [
                {
                    "md5": digits("file"),
                    "kind": "exam",
                    "was": sha256("file"),
                    "replaced_by": sha256("tombstone"),
                }
            ],
        }
        event = self.tell(events.WITHDRAWAL_BEGUN, self.dataset, payload, "dora")
        if done:
            payload |= {"begun": event.number, "version": self.last, "barred": sha256("list")}
            event = self.tell(events.WITHDRAWAL_COMPLETED, self.dataset, payload, "dora")
        return event

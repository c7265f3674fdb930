"""What DVC wrote down, read from its files: dataset versions and what each stage's results hold."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from keyslice.config import Workspace


def version(workspace: Workspace, dataset: str) -> str | None:
    """The dataset's version: DVC's md5 of the folder of exams ("….dir"); None before the first."""
    pointer = _read(workspace.pointer(dataset))
    return pointer["outs"][0]["md5"] if pointer else None


def stage_names(dataset: str, variants: Iterable[str]) -> list[str]:
    """Every stage of a dataset, in the order of the graph."""
    variants = list(variants)
    return [
        f"prepare@{dataset}",
        *(f"train@{dataset}-{variant}" for variant in variants),
        *(f"evaluate@{dataset}-{variant}" for variant in variants),
        f"compare@{dataset}",
    ]


def stage_hash(workspace: Workspace, *stages: str) -> str | None:
    """sha256 over the stages' entries in dvc.lock (command, dependencies, parameters, outputs).

    Equal hashes mean equal inputs and equal results. None: one of them has not been run.
    """
    entries = (_read(workspace.root / "dvc.lock") or {}).get("stages", {})
    if any(stage not in entries for stage in stages):
        return None
    canonical = json.dumps({s: entries[s] for s in stages}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def lock_hash(workspace: Workspace, dataset: str, variants: Iterable[str]) -> str | None:
    """`stage_hash` of the dataset's whole chain; None while a part of it has not been run."""
    return stage_hash(workspace, *stage_names(dataset, variants))


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    return yaml.safe_load(path.read_text(encoding="utf-8"))

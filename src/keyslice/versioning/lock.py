"""What DVC wrote down, read from its files: dataset versions and what each stage's results hold."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from keyslice.config import Workspace
from keyslice.errors import UserError


def version(workspace: Workspace, dataset: str) -> str | None:
    """The dataset's version: DVC's md5 of the folder of exams ("….dir"); None before the first.

    Raises:
        UserError: its pointer is none that DVC has written.
    """
    path = workspace.pointer(dataset)
    pointer = _read(path)
    if pointer is None:
        return None
    try:
        return str(pointer["outs"][0]["md5"])
    except (LookupError, TypeError):
        raise _damaged(path) from None


def prepared_version(workspace: Workspace, dataset: str) -> str | None:
    """The version of the exams that stage prepare has read; None: it has not been run."""
    exams = workspace.exams(dataset).relative_to(workspace.root).as_posix()
    read = _entries(workspace).get(f"prepare@{dataset}", {}).get("deps", [])
    return next((entry.get("md5") for entry in read if entry["path"] == exams), None)


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
    entries = _entries(workspace)
    if any(stage not in entries for stage in stages):
        return None
    canonical = json.dumps({s: entries[s] for s in stages}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def lock_hash(workspace: Workspace, dataset: str, variants: Iterable[str]) -> str | None:
    """`stage_hash` of the dataset's whole chain; None while a part of it has not been run."""
    return stage_hash(workspace, *stage_names(dataset, variants))


def _entries(workspace: Workspace) -> dict[str, Any]:
    """What dvc.lock says of each stage."""
    return (_read(workspace.root / "dvc.lock") or {}).get("stages", {})


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise _damaged(path) from None
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> UserError:
    name = "/".join(path.parts[-3:]) if path.suffix == ".dvc" else path.name
    return UserError(
        "cannot be read",
        where=name,
        rule="it is as DVC wrote it, with nothing left of a merge",
        remedy=f"choose one side: git checkout --ours {name}, or --theirs",
    )

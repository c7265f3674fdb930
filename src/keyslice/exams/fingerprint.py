"""Is there anything new in a source? Answered from names, sizes and times, without reading exams.

Nothing heavy is imported here: the question comes up before every scheduled retraining.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import FolderDataset, Workspace
from keyslice.config.datasets import CommonDataset, Dataset
from keyslice.exams.folder import scan
from keyslice.exams.source import file_state

OVERRIDES = {"prepare", "backbone", "model", "train", "evaluate", "compare"}
GROWING = {"rare_classes", "split", "exams", "path", "labels", "label_column"}
"""Settings that may change between ingestions; the others say what the dataset is."""


def identity(dataset: CommonDataset) -> dict[str, Any]:
    """The settings that a dataset keeps for life."""
    return dataset.model_dump(mode="json", exclude=OVERRIDES | GROWING)


def folder_of(workspace: Workspace, name: str, dataset: FolderDataset) -> Path:
    """Where a folder dataset's files lie."""
    return workspace.root / dataset.path if dataset.path else workspace.inbox(name)


def source_unchanged(workspace: Workspace, name: str, dataset: Dataset) -> bool:
    """Whether an ingestion now would find what the last one found.

    Compares the dataset's settings, the manifest, the quarantine list and, of a folder, each
    file's name, size and time of change. (The other sources are fixed by their settings.)
    """
    try:
        return _note(workspace, name)["fingerprint"] == _fingerprint(workspace, name, dataset)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False


def known_exams(workspace: Workspace, name: str) -> dict[str, str]:
    """Exam ids by the stamps of the files that the last ingestion read."""
    try:
        return _note(workspace, name)["stamps"]
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def record(workspace: Workspace, name: str, dataset: Dataset, stamps: dict[str, str]) -> None:
    """Note, at the end of an ingestion, what it found."""
    note = {"fingerprint": _fingerprint(workspace, name, dataset), "stamps": stamps}
    files.write_text(_path(workspace, name), json.dumps(note, sort_keys=True))


def _path(workspace: Workspace, name: str) -> Path:
    return workspace.state / "sources" / f"{name}.json"


def _note(workspace: Workspace, name: str) -> dict[str, Any]:
    return json.loads(_path(workspace, name).read_text(encoding="utf-8"))


def _fingerprint(workspace: Workspace, name: str, dataset: Dataset) -> str:
    """Raises FileNotFoundError: there is no manifest, or no folder."""
    settings = dataset.model_dump(mode="json", exclude=OVERRIDES)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(workspace.manifest(name).read_bytes())
    refused = workspace.quarantine(name)
    digest.update(refused.read_bytes() if refused.is_file() else b"")
    if isinstance(dataset, FolderDataset):
        folder = folder_of(workspace, name, dataset)
        found = [(path, *file_state(status)) for path, status in scan(folder)]
        # A table outside the folder is not among them.
        table = (folder / dataset.labels).stat()
        digest.update(repr((found, file_state(table))).encode())
    return digest.hexdigest()

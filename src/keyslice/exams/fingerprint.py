"""Is there anything new in a source? Answered from names, sizes and times, without reading exams.

Nothing heavy is imported here: the question comes up before every scheduled retraining.
"""

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from keyslice import __version__, files
from keyslice.config import FolderDataset, Workspace
from keyslice.config.datasets import CommonDataset, Dataset
from keyslice.config.params import SECTIONS
from keyslice.exams.folder import scan
from keyslice.exams.source import KnownFile, file_state

GROWING = {
    "rare_classes",
    "split",
    "exams",
    "path",
    "labels",
    "label_column",
    "burned_in",
    "settle",
    "limits",
}
"""Settings that may change between ingestions; the others say what the dataset is."""
FORMAT = 3
"""Of the note; one of another format is as none, and all files are read again."""
SourceState = Literal["unchanged", "changed", "unseen"]


def identity(dataset: CommonDataset) -> dict[str, Any]:
    """The settings that a dataset keeps for life."""
    return dataset.model_dump(mode="json", exclude=GROWING.union(SECTIONS))


def default_identity(dataset: CommonDataset) -> dict[str, Any]:
    """What holds for a dataset that was made before one of these settings was known."""
    return identity(type(dataset).model_construct())


def folder_of(workspace: Workspace, name: str, dataset: FolderDataset) -> Path:
    """Where a folder dataset's files lie."""
    if not dataset.path:
        return workspace.inbox(name)
    # Path.expanduser raises where there is no such user; here that is a folder that is not there.
    return workspace.root / os.path.expanduser(dataset.path)  # noqa: PTH111


def source_state(workspace: Workspace, name: str, dataset: Dataset) -> SourceState:
    """Whether an ingestion now would find what the last one found.

    `unseen`: the source's files or its table cannot be listed, as where a drive is not mounted; an
    ingestion would say what is wrong. Else compares the dataset's settings, the manifest, the
    quarantine list and, of a folder, each file's name, size and times of change. (The other sources
    are fixed by their settings.)
    """
    source = of_source(workspace, name, dataset)
    if source is None:
        return "unseen"
    noted = note(workspace, name).fingerprint
    same = noted is not None and noted == of_dataset(workspace, name, source)
    return "unchanged" if same else "changed"


def of_source(workspace: Workspace, name: str, dataset: Dataset) -> str | None:
    """Stands for the settings and the files of a source; None where these cannot be listed.

    Taken before an ingestion lists the files: what comes later is then news, found or not.
    """
    settings = dataset.model_dump(mode="json", exclude=set(SECTIONS))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    if isinstance(dataset, FolderDataset):
        folder = folder_of(workspace, name, dataset)
        try:
            # The inode's own time too: a file that could not be read may be opened by chmod alone.
            found = [(p, *file_state(status), status.st_ctime_ns) for p, status in scan(folder)]
            # A table outside the folder is not among them.
            table = (folder / dataset.labels).stat()
        except OSError:
            return None
        digest.update(repr((found, file_state(table))).encode())
    return digest.hexdigest()


def of_dataset(workspace: Workspace, name: str, source: str | None) -> str | None:
    """Stands for a source, and for what came of it: the manifest and the quarantine list."""
    if source is None or not workspace.manifest(name).is_file():
        return None
    digest = hashlib.sha256(source.encode())
    digest.update(workspace.manifest(name).read_bytes())
    refused = workspace.quarantine(name)
    digest.update(refused.read_bytes() if refused.is_file() else b"")
    return digest.hexdigest()


class Note(NamedTuple):
    """What an ingestion found, for the next one."""

    fingerprint: str | None
    """`of_dataset`, of the source as it was before it was listed."""
    files: dict[str, KnownFile]
    """Those taken in, by stamp."""
    states: dict[str, tuple[int, int]]
    """Size and time of change of each stored exam, when it last was as the manifest says."""
    headers: dict[str, Any]
    """Of DICOM files, by stamp; see `discovery.Header`."""
    faults: list[str]
    """Stamps of files that could not be read; why is told by the quarantine list alone."""
    places: dict[str, str]
    """Exams taken in, by what stands for the place of their files."""
    key: str = ""
    """Mark of the key of those tokens, and of the headers'; see `Keyring.key`."""


def note(workspace: Workspace, name: str) -> Note:
    """Empty where there is none, or a damaged or an older one: the next ingestion makes it anew."""
    try:
        found = json.loads(_path(workspace, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return Note(None, {}, {}, {}, [], {})
    return Note(
        found["fingerprint"],
        {stamp: KnownFile(*known) for stamp, known in found["files"].items()},
        {exam: (size, time) for exam, (size, time) in found["states"].items()},
        found["headers"],
        # What one version could not read, the next may.
        found["faults"] if found["version"] == __version__ else [],
        found["places"],
        found.get("key", ""),
    )


def record(workspace: Workspace, name: str, found: Note) -> None:
    """Note what an ingestion found, when all that follows from it is done."""
    content = {"format": FORMAT, "version": __version__} | found._asdict()
    files.write_text(_path(workspace, name), json.dumps(content, sort_keys=True))


def forget(workspace: Workspace, name: str, exams: Collection[str]) -> None:
    """Take these exams out of the note; the caller holds the dataset's lock."""
    if not _path(workspace, name).is_file():
        return
    found = note(workspace, name)
    left = found._replace(
        files={stamp: known for stamp, known in found.files.items() if known.exam not in exams},
        states={exam: state for exam, state in found.states.items() if exam not in exams},
        places={place: exam for place, exam in found.places.items() if exam not in exams},
    )
    if left != found:
        record(workspace, name, left)


def _path(workspace: Workspace, name: str) -> Path:
    return workspace.state / "sources" / f"{name}.json"

"""Damaged files of every format through the whole of an ingestion; `make fuzz` takes thousands."""

import csv
import importlib.util
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from keyslice.config import FolderDataset, Limits, Workspace
from keyslice.exams import container, manifest
from keyslice.exams.exam import exam_path
from keyslice.exams.ingestion import ingest
from keyslice.exams.opening import open_exam
from keyslice.exams.readers import FORMATS
from keyslice.exams.source import Reading

_SPEC = importlib.util.spec_from_file_location("fuzzing", Path(__file__).with_name("fuzzing.py"))
assert _SPEC
assert _SPEC.loader
fuzzing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzzing)

NUMBER = int(os.environ.get("KEYSLICE_FUZZ", "150"))
SEED = int(os.environ.get("KEYSLICE_FUZZ_SEED", "0"))
LIMITS = Limits(seconds=60, memory=2**28)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with (folder / "labels.csv").open("w", newline="") as table:
        rows = [
            (n if not n.endswith(".zip") else f"{n}/a.nii", i, "ab"[i % 2])
            for i, n in enumerate(files)
        ]
        csv.writer(table).writerows([("file", "patient_id", "label"), *rows])


@pytest.fixture
def dataset() -> FolderDataset:
    return FolderDataset(
        source="folder", classes=("a", "b"), identifiers="public", settle=0, limits=LIMITS
    )


def test_the_files_that_are_damaged_are_sound_and_of_every_format(tmp_path: Path) -> None:
    files = fuzzing.sound()
    endings = {name[name.index(".") :] for name in files}
    for known in FORMATS.values():
        assert endings & set(known)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert open_exam(tmp_path / name, Reading(limits=LIMITS)).frames.size


@pytest.mark.timeout(0 if NUMBER > 1000 else 280)
def test_every_damaged_file_is_accepted_or_quarantined_with_a_reason(
    workspace: Workspace, dataset: FolderDataset
) -> None:
    sound = fuzzing.sound()
    names = sorted(sound)
    files = {f"sound/{name}": content for name, content in sound.items()}
    for number in range(NUMBER):
        rng = np.random.default_rng([SEED, number])
        name = names[number % len(names)]
        files[f"{number:05d}/{name}"] = fuzzing.damaged(
            fuzzing.of_its_own(sound[name], 100 + number), rng
        )
    _write(workspace.inbox("ward"), files)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = ingest(workspace, "ward", dataset)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000  # kB
    assert report.found == len(files) + 1
    held = report.accepted + report.duplicates + report.quarantined
    assert held + report.waiting + report.skipped == report.found
    assert all(len(refusal.reason) > 10 for refusal in report.refused)
    folder = workspace.exams("ward")
    for exam in manifest.read(workspace.manifest("ward"))["exam_id"]:
        container.load(exam_path(folder, exam))

import os
import subprocess
import sys

import pytest

from keyslice.config import FolderDataset
from keyslice.exams.fingerprint import source_unchanged
from keyslice.exams.ingestion import ingest


@pytest.fixture
def ingested(workspace, dataset, ward):
    assert not source_unchanged(workspace, "ward", dataset)
    ingest(workspace, "ward", dataset)
    assert source_unchanged(workspace, "ward", dataset)
    return workspace.inbox("ward")


def test_a_touched_file_is_news(workspace, dataset, ingested):
    os.utime(ingested / "3.nii", ns=(1, 1))
    assert not source_unchanged(workspace, "ward", dataset)


def test_a_new_file_is_news(workspace, dataset, ingested, write_exam):
    write_exam("sub/new.nii", 70)
    assert not source_unchanged(workspace, "ward", dataset)


def test_a_removed_folder_is_news(workspace, dataset, ingested):
    ingested.rename(ingested.with_name("gone"))
    assert not source_unchanged(workspace, "ward", dataset)


def test_a_changed_setting_of_the_source_is_news(workspace, dataset, ingested):
    changed = dataset.model_copy(update={"label_column": "other"})
    assert not source_unchanged(workspace, "ward", changed)


def test_an_override_of_a_later_stage_is_none(workspace, dataset, ingested):
    changed = dataset.model_copy(update={"train": {"epochs": 1}})
    assert source_unchanged(workspace, "ward", changed)


def test_another_version_of_the_manifest_is_news(workspace, dataset, ingested):
    workspace.manifest("ward").write_bytes(b"")
    assert not source_unchanged(workspace, "ward", dataset)


def test_a_line_taken_out_of_the_quarantine_list_is_news(workspace, dataset, ingested, write_exam):
    write_exam("new.nii", 70)
    ingest(workspace, "ward", dataset)
    assert source_unchanged(workspace, "ward", dataset)
    workspace.quarantine("ward").unlink()
    assert not source_unchanged(workspace, "ward", dataset)


def test_a_damaged_note_is_news(workspace, dataset, ingested):
    (workspace.state / "sources" / "ward.json").write_text("{")
    assert not source_unchanged(workspace, "ward", dataset)


def test_asking_needs_no_heavy_library():
    code = (
        "import sys, keyslice.exams.fingerprint;"
        "heavy = {'pandas', 'pandera', 'nibabel', 'pyarrow', 'torch', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "[]"


def test_a_configured_dataset_that_was_never_ingested_is_news(workspace):
    dataset = FolderDataset(source="folder", classes=("a", "b"))
    assert not source_unchanged(workspace, "never", dataset)

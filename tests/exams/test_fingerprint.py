import os
import subprocess
import sys

import pytest

from keyslice.config import FolderDataset
from keyslice.exams.fingerprint import folder_of, source_state
from keyslice.exams.ingestion import ingest


@pytest.fixture
def ingested(workspace, dataset, ward):
    assert source_state(workspace, "ward", dataset) != "unchanged"
    ingest(workspace, "ward", dataset)
    assert source_state(workspace, "ward", dataset) == "unchanged"
    return workspace.inbox("ward")


def test_a_touched_file_is_news(workspace, dataset, ingested):
    os.utime(ingested / "3.nii", ns=(1, 1))
    assert source_state(workspace, "ward", dataset) != "unchanged"


def test_a_new_file_is_news(workspace, dataset, ingested, write_exam):
    write_exam("sub/new.nii", 70)
    assert source_state(workspace, "ward", dataset) != "unchanged"


def test_a_folder_that_is_not_there_is_unseen_rather_than_changed(workspace, dataset, ingested):
    ingested.rename(ingested.with_name("gone"))
    assert source_state(workspace, "ward", dataset) == "unseen"
    assert source_state(workspace, "ward", dataset) != "unchanged"
    ingested.mkdir()  # where a drive would be mounted
    assert source_state(workspace, "ward", dataset) == "unseen"


def test_a_source_that_is_seen_is_changed_or_not(workspace, dataset, ingested):
    assert source_state(workspace, "ward", dataset) == "unchanged"
    os.utime(ingested / "3.nii", ns=(1, 1))
    assert source_state(workspace, "ward", dataset) == "changed"


def test_a_changed_setting_of_the_source_is_news(workspace, dataset, ingested):
    changed = dataset.model_copy(update={"label_column": "other"})
    assert source_state(workspace, "ward", changed) != "unchanged"


def test_an_override_of_a_later_stage_is_none(workspace, dataset, ingested):
    changed = dataset.model_copy(update={"train": {"epochs": 1}})
    assert source_state(workspace, "ward", changed) == "unchanged"


def test_another_version_of_the_manifest_is_news(workspace, dataset, ingested):
    workspace.manifest("ward").write_bytes(b"")
    assert source_state(workspace, "ward", dataset) != "unchanged"


def test_a_line_taken_out_of_the_quarantine_list_is_news(workspace, dataset, ingested):
    (ingested / "3.nii").write_bytes(b"damaged")
    ingest(workspace, "ward", dataset)
    assert source_state(workspace, "ward", dataset) == "unchanged"
    workspace.quarantine("ward").unlink()
    assert source_state(workspace, "ward", dataset) != "unchanged"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_note_is_news_and_made_anew(workspace, dataset, ingested, content):
    (workspace.state / "sources" / "ward.json").write_text(content)
    assert source_state(workspace, "ward", dataset) != "unchanged"
    assert ingest(workspace, "ward", dataset).present == 12
    assert source_state(workspace, "ward", dataset) == "unchanged"


def test_what_arrives_while_exams_are_read_is_news(
    workspace, dataset, ward, write_exam, write_table
):
    def arrives(done: int, total: int) -> None:
        if done == total:
            write_exam("late.nii", 70)
            write_table([*ward, ("late.nii", "070", "yes")])

    ingest(workspace, "ward", dataset, progress=arrives)
    assert source_state(workspace, "ward", dataset) != "unchanged"
    assert ingest(workspace, "ward", dataset).accepted == 1


def test_an_ingestion_without_its_version_is_news(workspace, dataset, ingested, write_exam):
    def killed() -> None:
        raise KeyboardInterrupt

    write_exam("extra.nii", 70)
    with pytest.raises(KeyboardInterrupt):
        ingest(workspace, "ward", dataset, make_version=killed)
    assert source_state(workspace, "ward", dataset) != "unchanged"


def test_a_file_whose_permissions_changed_is_news(workspace, dataset, ingested):
    (ingested / "3.nii").chmod(0o600)
    assert source_state(workspace, "ward", dataset) != "unchanged"


def test_a_folder_in_the_home_is_found(workspace, dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path, place in {"~/exams": tmp_path / "exams", "~nobody-here/x": None}.items():
        changed = dataset.model_copy(update={"path": path})
        expected = place or workspace.root / path
        assert folder_of(workspace, "ward", changed) == expected


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
    assert source_state(workspace, "never", dataset) != "unchanged"

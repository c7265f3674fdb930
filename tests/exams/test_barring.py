"""Of patients who have withdrawn no ingestion takes an exam, and it says so without alarm."""

import shutil

import pytest

from keyslice.config import FolderDataset, Prepare, Workspace
from keyslice.errors import UserError
from keyslice.exams import barred, checks, known, manifest, manifest_columns, quarantine
from keyslice.exams.barred import Barred
from keyslice.exams.container import TOMBSTONE
from keyslice.exams.exam import exam_path
from keyslice.exams.ingestion import IngestReport, ingest
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from keyslice.stages.prepare import write_store

WHO = pseudonym(PUBLISHED_KEY, "", "004")


def bar(workspace: Workspace, *, exams: set[str] | None = None) -> None:
    barred.add(workspace, "ward", Barred(frozenset([WHO]), frozenset(exams or ())))


def told(report: IngestReport) -> tuple[int, tuple[str, ...], int, int, int]:
    return report.barred, report.shut, report.quarantined, report.waiting, report.exams


@pytest.fixture
def more(dataset: FolderDataset) -> FolderDataset:
    """With seven patients of a class, one of them may be missing."""
    return dataset.model_copy(update={"rare_classes": "leave_out"})


def test_who_objects_before_any_exam_has_come_is_never_read(
    workspace: Workspace, more: FolderDataset, ward: list[tuple[str, str, str]]
) -> None:
    bar(workspace)
    (workspace.inbox("ward") / "4.nii").write_bytes(b"would be refused if it were read")
    for retry in (False, True):
        report = ingest(workspace, "ward", more, retry=retry)
        assert told(report) == (1, ("4.nii",), 0, 0, 11)
        assert report.found == 13  # the table is one of them
    assert WHO not in manifest_columns.read_patients(workspace.manifest("ward"))


def test_who_withdraws_leaves_a_version_that_still_holds_them(
    workspace: Workspace, more: FolderDataset, ward: list[tuple[str, str, str]]
) -> None:
    ingest(workspace, "ward", more)
    bar(workspace)
    report = ingest(workspace, "ward", more)
    assert told(report) == (1, ("4.nii",), 0, 0, 11)
    assert report.removed == 1
    assert len([*workspace.exams("ward").glob("*.zip")]) == 11
    assert ingest(workspace, "ward", more).removed == 0


def test_the_same_pixels_do_not_come_back_under_another_patient(
    workspace: Workspace, more: FolderDataset, ward: list[tuple[str, str, str]], write_table
) -> None:
    ingest(workspace, "ward", more)
    rows = manifest.rows(manifest.read(workspace.manifest("ward")))
    bar(workspace, exams={exam for exam, row in rows.items() if row["patient"] == WHO})
    shutil.copy(workspace.inbox("ward") / "4.nii", workspace.inbox("ward") / "stranger.nii")
    write_table([*ward, ("stranger.nii", "099", "no")])
    for _ in range(2):
        report = ingest(workspace, "ward", more)
        assert told(report) == (2, ("4.nii", "stranger.nii"), 0, 0, 11)
    assert len([*workspace.exams("ward").iterdir()]) == 12


def test_a_conflict_with_somebody_who_has_withdrawn_is_not_settled_by_that(
    workspace: Workspace, more: FolderDataset, ward: list[tuple[str, str, str]], write_table
) -> None:
    shutil.copy(workspace.inbox("ward") / "4.nii", workspace.inbox("ward") / "again.nii")
    write_table([*ward, ("again.nii", "006", "no")])
    assert ingest(workspace, "ward", more).quarantined == 2
    bar(workspace)
    report = ingest(workspace, "ward", more)
    assert (report.barred, report.exams) == (1, 11)
    kinds = {r.file: r.kind for r in quarantine.read(workspace.quarantine("ward"))}
    assert kinds["again.nii"] == "two_patients"


def test_readers_take_a_tombstone_for_what_it_is(
    workspace: Workspace, dataset: FolderDataset, ward: list[tuple[str, str, str]]
) -> None:
    ingest(workspace, "ward", dataset)
    home, table = workspace.exams("ward"), manifest.read(workspace.manifest("ward"))
    exam = table["exam_id"].iloc[3]
    exam_path(home, exam).write_bytes(TOMBSTONE)
    [found] = checks.stored(home, dict(zip(table["exam_id"], table["sha256"], strict=True)))
    assert (found.check, found.exams) == ("erased", (exam,))
    with pytest.raises(UserError, match="its patient has withdrawn"):
        known.load(workspace, known.find(workspace, ["ward"], exam))
    with pytest.raises(UserError, match="its patient has withdrawn"):
        write_store(table, "", home, workspace.prepared("ward"), Prepare(image_size=4))

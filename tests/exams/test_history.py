import shutil

import pytest

from keyslice.errors import UserError
from keyslice.exams import history, manifest
from keyslice.exams.exam import exam_id
from keyslice.exams.ingestion import ingest
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading


def _splits(workspace) -> dict[str, str]:
    table = manifest.read(workspace.manifest("ward"))
    return dict(zip(table["exam_id"], table["split"], strict=True))


@pytest.mark.parametrize("known", [True, False])
def test_who_returns_after_an_older_version_comes_back_into_the_same_split(
    workspace, dataset, ward, write_exam, write_table, known, tmp_path
):
    ingest(workspace, "ward", dataset)
    history.keep(workspace, "ward", "1.dir")
    shutil.copytree(workspace.exams("ward"), tmp_path / "first")
    late = [(f"late{n}.nii", f"{50 + n}" if known else "", "yes") for n in range(12)]
    exams = {}
    for n, row in enumerate(late):
        write_exam(row[0], 50 + n)
        exams[row] = exam_id(open_exam(workspace.inbox("ward") / row[0], Reading()).frames)
    write_table([*ward, *late])
    ingest(workspace, "ward", dataset)
    history.keep(workspace, "ward", "2.dir")
    assigned = _splits(workspace)
    tested = [row for row in late if assigned[exams[row]] == "test"]
    assert len(tested) > 2

    shutil.rmtree(workspace.exams("ward"))
    shutil.copytree(tmp_path / "first", workspace.exams("ward"))
    write_table([*ward, *tested])
    ingest(workspace, "ward", dataset)
    assert {_splits(workspace)[exams[row]] for row in tested} == {"test"}


def test_manifests_that_disagree_about_a_patient_are_refused(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    table = manifest.read(workspace.manifest("ward"))
    table.loc[0, "split"] = "train" if table.loc[0, "split"] == "test" else "test"
    kept = workspace.kept_manifest("ward", "1.dir")
    manifest.write(table, kept, {})
    before = workspace.manifest("ward").read_bytes()
    with pytest.raises(UserError, match=r"state/manifests/ward/1\.dir\.parquet: has a patient in"):
        ingest(workspace, "ward", dataset)
    assert workspace.manifest("ward").read_bytes() == before


def test_a_version_that_is_kept_is_not_written_again(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    kept = workspace.kept_manifest("ward", "1.dir")
    history.keep(workspace, "ward", "1.dir")
    assert kept.read_bytes() == workspace.manifest("ward").read_bytes()
    time = kept.stat().st_mtime_ns
    history.keep(workspace, "ward", "1.dir")
    assert kept.stat().st_mtime_ns == time


def test_what_a_kill_left_half_written_is_passed_over(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    history.keep(workspace, "ward", "1.dir")
    (workspace.manifests("ward") / ".1-x.parquet").touch()
    assert ingest(workspace, "ward", dataset).present == 12

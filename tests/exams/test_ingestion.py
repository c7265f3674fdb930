import contextlib
import csv
import dataclasses
import json
import os
import re
import shutil
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from PIL import Image

from keyslice import files
from keyslice.config import FolderDataset, Limits, PhantomDataset
from keyslice.errors import UserError
from keyslice.exams import ingestion, manifest, manifest_columns
from keyslice.exams.container import load
from keyslice.exams.exam import Exam, exam_id, exam_path
from keyslice.exams.fingerprint import source_state
from keyslice.exams.ingestion import ingest
from keyslice.exams.opening import open_exam
from keyslice.exams.pseudonym import KEY_VARIABLE, create_key
from keyslice.exams.source import Reading
from keyslice.exams.workers import Workers


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _quarantine(workspace) -> list[dict[str, str]]:
    path = workspace.quarantine("ward")
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _table(workspace):
    return manifest.read(workspace.manifest("ward"))


def read(path: Path) -> Exam:
    return open_exam(path, Reading())


def _accounted(report) -> bool:
    held = report.accepted + report.present + report.duplicates + report.quarantined
    others = report.waiting + report.left_out + report.arriving + report.skipped
    return report.found == held + others


def test_every_exam_is_stored_as_read_and_listed(workspace, dataset, ward):
    report = ingest(workspace, "ward", dataset)
    assert (report.found, report.accepted, report.batch) == (13, 12, "0001")
    assert report.skipped == 1  # the table
    table = _table(workspace).set_index("exam_id")
    for name, _, label in ward:
        frames = read(workspace.inbox("ward") / name).frames
        row = table.loc[exam_id(frames)]
        assert (load(exam_path(workspace.exams("ward"), str(row.name))).frames == frames).all()
        assert row["label"] == label
        assert (row["frames"], row["height"], row["width"]) == frames.shape
        assert (row["frame_spacing"], row["row_spacing"]) == (4.0, 1.0)


def _add_name(path: Path) -> None:
    """Put a name wherever a NIfTI file has room for text."""
    image = nib.Nifti1Image.from_filename(path)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = "doe_john"
    image.header.extensions.append(Nifti1Extension("comment", b"doe_john"))
    nib.save(image, path.with_name(f"named_{path.name}"))
    path.with_name(f"named_{path.name}").replace(path)
    assert path.read_bytes().count(b"doe_john") == 5


def test_no_original_name_or_patient_id_enters_a_file_but_the_quarantine_list(
    workspace, dataset, write_exam, write_table, contents
):
    rows = [(f"doe_{n}.nii", f"ID-{n:04}", "yes" if n % 2 else "no") for n in range(6)]
    for seed, (name, _, _) in enumerate(rows):
        write_exam(name, seed)
        _add_name(workspace.inbox("ward") / name)
    write_table(rows)
    ingest(workspace, "ward", dataset)
    written = [*workspace.exams("ward").iterdir(), *workspace.state.rglob("*")]
    assert any(b"source_format" in contents(path) for path in written if path.is_file())
    for path in written:
        assert "doe" not in path.name
        if path.is_file():
            assert not re.search(rb"doe_|ID-0", contents(path)), path


@pytest.mark.parametrize("damage", [Path.unlink, Path.touch, lambda path: path.write_bytes(b"")])
def test_a_stored_exam_that_is_not_as_it_was_is_stored_again(workspace, dataset, ward, damage):
    ingest(workspace, "ward", dataset)
    before = _files(workspace.exams("ward"))
    damage(min(workspace.exams("ward").glob("*.zip")))
    assert ingest(workspace, "ward", dataset).present == 12
    assert _files(workspace.exams("ward")) == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_exam_that_its_source_no_longer_has_stops_the_ingestion(
    workspace, dataset, ward, write_table, damage
):
    ingest(workspace, "ward", dataset)
    exam = exam_id(read(workspace.inbox("ward") / "0.nii").frames)
    damage(exam_path(workspace.exams("ward"), exam))
    (workspace.inbox("ward") / "0.nii").unlink()
    write_table(ward[1:])
    before = _files(workspace.exams("ward"))
    with pytest.raises(UserError, match=rf"exam {exam} is .*dvc checkout --force data/exams/ward"):
        ingest(workspace, "ward", dataset)
    assert _files(workspace.exams("ward")) == before


def test_stored_exams_that_nobody_touched_are_not_read_again(workspace, dataset, ward, monkeypatch):
    ingest(workspace, "ward", dataset)
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} was read"))
    assert ingest(workspace, "ward", dataset).present == 12


@pytest.mark.parametrize("name", ["Doe/", "Doe.nii.gz", "Doe.zip", ".Doe", f"{'a' * 32}.zip/"])
def test_what_a_person_put_among_the_exams_is_neither_versioned_nor_swept_away(
    workspace, dataset, ward, name
):
    ingest(workspace, "ward", dataset)
    path = workspace.exams("ward") / name
    path.mkdir() if name.endswith("/") else path.write_text("not ours")
    before = _files(workspace.data)
    with pytest.raises(UserError, match=r"^data/exams/ward: holds .*data/inbox/ward$") as error:
        ingest(workspace, "ward", dataset)
    assert "Doe" not in str(error.value)
    assert path.exists()
    assert _files(workspace.data) == before


@pytest.mark.parametrize("refused", [False, True])
def test_what_comes_among_the_exams_while_they_are_read_is_not_swept_away(
    workspace, dataset, ward, write_table, refused
):
    ingest(workspace, "ward", dataset)
    late = workspace.exams("ward") / "scan_001.nii.gz"
    if refused:
        write_table([(*row, "train") for row in ward], ("file", "patient_id", "label", "split"))
    with pytest.raises(UserError) if refused else contextlib.nullcontext():
        ingest(workspace, "ward", dataset, progress=lambda *_: late.touch())
    assert late.exists()


@pytest.mark.parametrize(
    "name",
    [
        f"{'0' * 32}.zip",
        f".{'0' * 32}-01234567.zip",
        ".manifest-01234567.parquet",
        ".zTLSxa8-V0ZbJ_4ZYFpZ3Q.tmp",
    ],
)
def test_what_a_kill_left_among_the_exams_is_swept_away(workspace, dataset, ward, name):
    ingest(workspace, "ward", dataset)
    (workspace.exams("ward") / name).touch()
    assert ingest(workspace, "ward", dataset).present == 12
    assert not (workspace.exams("ward") / name).exists()


def test_a_setting_that_came_later_counts_as_its_default_and_changes_no_byte(
    workspace, dataset, ward
):
    ingest(workspace, "ward", dataset)
    path = workspace.manifest("ward")
    older = {k: v for k, v in manifest_columns.read_identity(path).items() if k != "slice_axis"}
    manifest.write(manifest.read(path), path, older)
    before = _files(workspace.exams("ward"))
    assert ingest(workspace, "ward", dataset).present == 12
    assert _files(workspace.exams("ward")) == before
    with pytest.raises(UserError, match=r"slice_axis: was 'auto'.*and is 0"):
        ingest(workspace, "ward", dataset.model_copy(update={"slice_axis": 0}))


def test_an_unchanged_source_changes_no_byte(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    before = _files(workspace.data), _files(workspace.state)
    times = {p: p.stat().st_mtime_ns for p in workspace.exams("ward").iterdir()}
    report = ingest(workspace, "ward", dataset)
    assert (report.present, report.accepted, report.batch) == (12, 0, None)
    assert (_files(workspace.data), _files(workspace.state)) == before
    assert {p: p.stat().st_mtime_ns for p in workspace.exams("ward").iterdir()} == times


def test_new_exams_form_a_new_batch_and_move_nobody(
    workspace, dataset, ward, write_exam, write_table
):
    ingest(workspace, "ward", dataset)
    before = _table(workspace).set_index("exam_id")
    write_exam("late.nii", 100)
    write_table([*ward, ("late.nii", "001", "yes")])
    report = ingest(workspace, "ward", dataset)
    after = _table(workspace).set_index("exam_id")
    assert (report.accepted, report.present, report.batch) == (1, 12, "0002")
    kept = after.loc[before.index]
    assert kept.equals(before)
    (new,) = after.drop(before.index).itertuples()
    same_patient = before[before["patient"] == new.patient]
    assert new.split == same_patient["split"].iloc[0]


def test_exams_that_left_the_source_stay(workspace, dataset, ward, write_exam, write_table):
    ingest(workspace, "ward", dataset)
    for name, _, _ in ward:
        (workspace.inbox("ward") / name).unlink()
    write_exam("late.nii", 100)
    write_table([("late.nii", "099", "yes")])
    report = ingest(workspace, "ward", dataset)
    assert (report.found, report.accepted, report.skipped) == (2, 1, 1)
    assert len(_table(workspace)) == 13


def test_the_same_content_twice_is_one_exam(workspace, dataset, ward, write_exam, write_table):
    write_exam("copy.nii.gz", 0)
    write_table([*ward, ("copy.nii.gz", "000", "no")])
    report = ingest(workspace, "ward", dataset)
    assert (report.found, report.accepted, report.duplicates) == (14, 12, 1)


def test_the_same_pixels_under_two_patients_are_both_quarantined(
    workspace, dataset, ward, write_exam, write_table
):
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "123", "no")])
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.quarantined) == (11, 2)
    reasons = {row["file"]: row["reason"] for row in _quarantine(workspace)}
    assert reasons.keys() == {"0.nii", "copy.nii"}
    assert "under two patients (also copy.nii); decide which" in reasons["0.nii"]
    assert "(also 0.nii)" in reasons["copy.nii"]
    assert _accounted(report)


def test_an_exam_accepted_earlier_is_quarantined_with_the_one_that_contradicts_it(
    workspace, dataset, ward, write_exam, write_table
):
    ingest(workspace, "ward", dataset)
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "123", "no")])
    report = ingest(workspace, "ward", dataset)
    assert (report.removed, report.quarantined, report.present) == (1, 2, 11)
    assert len(_table(workspace)) == 11
    assert len(list(workspace.exams("ward").glob("*.zip"))) == 11
    again = _files(workspace.data)
    assert ingest(workspace, "ward", dataset).quarantined == 2
    assert _files(workspace.data) == again


def _without_ids(rows):
    return [(file, "", label) for file, _, label in rows]


def _patients_and_splits(workspace):
    table = _table(workspace).set_index("exam_id")
    return table["patient"].to_dict(), table["split"].to_dict()


def test_patient_ids_that_are_filled_in_later_are_taken_over_and_move_no_exam(
    workspace, dataset, ward, write_exam, write_table
):
    write_table(_without_ids(ward))
    ingest(workspace, "ward", dataset)
    unknown, splits = _patients_and_splits(workspace)
    assert set(unknown.values()) == {"unknown"}
    for rows in ([*ward[:5], *_without_ids(ward[5:])], ward):
        write_table(rows)
        report = ingest(workspace, "ward", dataset)
        assert (report.present, report.quarantined, report.removed) == (12, 0, 0)
        assert _patients_and_splits(workspace)[1] == splits
    known, _ = _patients_and_splits(workspace)
    assert len(set(known.values()) - {"unknown"}) == 12

    write_exam("late.nii", 70)
    write_table([*_without_ids(ward), ("late.nii", "003", "yes")])
    assert ingest(workspace, "ward", dataset).accepted == 1
    patients, splits_now = _patients_and_splits(workspace)
    assert known.items() <= patients.items()
    (late,) = patients.keys() - known.keys()
    earlier = next(exam for exam, patient in known.items() if patient == patients[late])
    assert splits_now[late] == splits[earlier]


def test_an_id_filled_in_that_two_splits_would_share_is_refused(
    workspace, dataset, ward, write_table
):
    write_table(_without_ids(ward))
    ingest(workspace, "ward", dataset)
    before = _files(workspace.exams("ward"))
    write_table([(file, "one", label) for file, _, label in ward])
    with pytest.raises(UserError, match=r"datasets\.ward: exam .* another of its patient in"):
        ingest(workspace, "ward", dataset)
    assert _files(workspace.exams("ward")) == before


def test_a_copy_without_an_id_is_its_patients(workspace, dataset, ward, write_exam, write_table):
    write_exam("copy.nii", 0)
    write_table([("copy.nii", "", "no"), *ward])
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.duplicates, report.quarantined) == (12, 1, 0)
    assert "unknown" not in set(_table(workspace)["patient"])


def test_an_exam_of_unknown_patient_is_no_party_to_a_conflict_about_it(
    workspace, dataset, ward, write_exam, write_table
):
    write_table(_without_ids(ward))
    ingest(workspace, "ward", dataset)
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "123", "no")])
    assert ingest(workspace, "ward", dataset).quarantined == 2
    write_table([*ward, ("copy.nii", "000", "no")])
    assert ingest(workspace, "ward", dataset).duplicates == 1
    assert len(_table(workspace)) == 12


def test_a_settled_conflict_lets_the_exam_in_again(
    workspace, dataset, ward, write_exam, write_table
):
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "123", "no")])
    ingest(workspace, "ward", dataset)
    write_table([*ward, ("copy.nii", "000", "no")])
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.duplicates, report.quarantined) == (1, 1, 0)
    assert not workspace.quarantine("ward").exists()


def test_a_conflict_with_a_file_that_is_gone_stands_until_its_lines_are_removed(
    workspace, dataset, ward, write_exam, write_table
):
    ingest(workspace, "ward", dataset)
    (workspace.inbox("ward") / "0.nii").unlink()
    write_exam("copy.nii", 0)
    write_table([*ward[1:], ("copy.nii", "123", "no")])
    for _ in range(2):
        assert ingest(workspace, "ward", dataset).quarantined == 1
        assert len(_table(workspace)) == 11
        assert len(_quarantine(workspace)) == 2
    workspace.quarantine("ward").unlink()
    assert ingest(workspace, "ward", dataset).accepted == 1


def test_the_same_pixels_with_two_labels_are_both_quarantined(
    workspace, dataset, ward, write_exam, write_table
):
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "000", "yes")])
    assert ingest(workspace, "ward", dataset).quarantined == 2
    assert {row["kind"] for row in _quarantine(workspace)} == {"two_labels"}


def test_a_changed_label_is_taken_over_and_changes_nothing_else(
    workspace, dataset, ward, write_table
):
    ingest(workspace, "ward", dataset)
    before = _table(workspace)
    write_table([("0.nii", "000", "yes"), *ward[1:]])
    report = ingest(workspace, "ward", dataset)
    after = _table(workspace)
    assert report.relabelled == 1
    assert (before["label"] != after["label"]).sum() == 1
    assert after.drop(columns="label").equals(before.drop(columns="label"))


def test_a_damaged_file_is_quarantined_and_the_others_go_on(workspace, dataset, ward):
    path = workspace.inbox("ward") / "7.nii"
    whole = path.read_bytes()
    path.write_bytes(whole[:400])
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.quarantined) == (11, 1)
    (row,) = _quarantine(workspace)
    assert row["file"] == "7.nii"
    assert "truncated" in row["reason"]
    path.write_bytes(whole)
    assert ingest(workspace, "ward", dataset).accepted == 1
    assert _quarantine(workspace) == []


def test_an_exam_without_a_line_waits_until_it_has_one(
    workspace, dataset, ward, write_exam, write_table
):
    write_exam("extra.nii", 50)
    report = ingest(workspace, "ward", dataset)
    assert (report.found, report.waiting, report.quarantined) == (14, 1, 0)
    assert report.waits == (("extra.nii", "no line of the table names it"),)
    assert _accounted(report)
    write_table([*ward, ("extra.nii", "050", "no")])
    assert ingest(workspace, "ward", dataset).accepted == 1


@pytest.mark.parametrize("label", ["", "maybe"])
def test_a_label_that_is_none_waits_and_takes_the_exam_out_until_that_changes(
    workspace, dataset, ward, write_table, label
):
    ingest(workspace, "ward", dataset)
    write_table([("0.nii", "000", label), *ward[1:]])
    for removed in (1, 0):
        report = ingest(workspace, "ward", dataset)
        assert (report.present, report.waiting, report.removed) == (11, 1, removed)
        assert _accounted(report)
    write_table(ward)
    assert ingest(workspace, "ward", dataset).accepted == 1


def test_an_exam_whose_line_is_gone_stays(workspace, dataset, ward, write_table):
    ingest(workspace, "ward", dataset)
    write_table(ward[1:])
    for _ in range(2):
        report = ingest(workspace, "ward", dataset)
        assert (report.present, report.waiting, report.exams) == (12, 0, 12)
        assert _accounted(report)


def test_lines_that_name_nothing_are_counted(workspace, dataset, ward, write_table):
    write_table([*ward, ("gone.nii", "1", "no"), ("../0.nii", "1", "no"), ("", "1", "no")])
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.unused_lines) == (12, 3)


@pytest.mark.parametrize("name", [b"M\xfcller.nii", b"M\xfcller/a.nii"])
def test_a_file_whose_name_is_not_utf_8_is_quarantined(workspace, dataset, ward, name):
    path = os.fsencode(workspace.inbox("ward")) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - Path takes no bytes
    shutil.copyfile(workspace.inbox("ward") / "0.nii", path)
    for _ in range(2):
        report = ingest(workspace, "ward", dataset)
        assert report.quarantined == 1
        assert _accounted(report)
    (row,) = _quarantine(workspace)
    assert row["file"] == name.decode(errors="backslashreplace")
    assert "not UTF-8" in row["reason"]
    assert source_state(workspace, "ward", dataset) == "unchanged"
    os.remove(path)  # noqa: PTH107
    ingest(workspace, "ward", dataset)
    assert _quarantine(workspace) == []


def test_informative_frames_are_kept_and_checked(workspace, dataset, ward, write_table):
    columns = ("file", "patient_id", "label", "informative")
    write_table([(*ward[0], "5"), *((*row, "4 2") for row in ward[1:])], columns)
    report = ingest(workspace, "ward", dataset)
    assert report.quarantined == 1
    assert _table(workspace)["informative"].tolist() == [[2, 4]] * 11


def test_informative_frames_are_numbered_as_the_file_has_them(
    workspace, dataset, ward, write_exam, write_table
):
    """Also those of a file that is not read again, and of each file of the same exam."""
    columns = ("file", "patient_id", "label", "informative")
    write_exam("0.nii", 0, downwards=True)
    exam = exam_id(read(workspace.inbox("ward") / "0.nii").frames)
    for cell, stored_numbers in (("0 1 1", [3, 4]), ("2", [2]), ("4", [0])):
        write_table([(*ward[0], cell), *((*row, "0") for row in ward[1:])], columns)
        assert ingest(workspace, "ward", dataset).quarantined == 0
        informative = _table(workspace).set_index("exam_id")["informative"]
        assert informative.pop(exam) == stored_numbers
        assert informative.tolist() == [[0]] * 11
    write_exam("copy.nii", 0)
    row = ("copy.nii", *ward[0][1:], "0")
    write_table([row, *((*row, "0") for row in ward[1:])], columns)
    for _ in range(2):
        ingest(workspace, "ward", dataset)
        assert _table(workspace).set_index("exam_id").at[exam, "informative"] == [0]


def test_a_note_that_does_not_tell_the_files_order_is_made_anew(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    note = workspace.state / "sources" / "ward.json"
    before = _files(workspace.data), note.read_bytes()
    content = json.loads(before[1])
    older = {"files": {stamp: exam for stamp, (exam, _) in content.pop("files").items()}}
    content["format"] -= 1
    note.write_text(json.dumps(content | older))
    assert source_state(workspace, "ward", dataset) != "unchanged"
    assert ingest(workspace, "ward", dataset).present == 12
    assert (_files(workspace.data), note.read_bytes()) == before


def test_a_video_of_no_frame_time_comes_in(workspace, dataset, ward, write_table):
    path = workspace.inbox("ward") / "video.nii"
    frames = np.random.default_rng(99).integers(0, 200, (6, 7, 1, 5), dtype=np.uint8)
    image = nib.Nifti1Image(frames, np.eye(4))
    image.header["pixdim"][4] = -1
    nib.save(image, path)
    write_table([*ward, ("video.nii", "099", "yes")])
    assert ingest(workspace, "ward", dataset).accepted == 13
    assert _table(workspace)["frame_time"].isna().all()


@pytest.mark.parametrize("place", ["_number_batch", "sweep"])
def test_an_ingestion_cut_off_anywhere_is_completed_by_the_next(
    workspace, dataset, ward, write_exam, write_table, monkeypatch, place
):
    ingest(workspace, "ward", dataset)
    first = _files(workspace.exams("ward"))
    write_exam("late.nii", 100)
    write_exam("copy.nii", 0)
    rows = [*ward, ("late.nii", "100", "yes"), ("copy.nii", "123", "no")]
    write_table(rows)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(ingestion, place, killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(workspace, "ward", dataset)
    if place == "_number_batch":
        assert workspace.manifest("ward").read_bytes() == first["manifest.parquet"]
    ingest(workspace, "ward", dataset)
    completed = _files(workspace.exams("ward"))

    undisturbed = dataclasses.replace(workspace, root=workspace.root.with_name("undisturbed"))
    elsewhere = dataset.model_copy(update={"path": str(workspace.inbox("ward"))})
    late = [workspace.inbox("ward") / name for name in ("late.nii", "copy.nii")]
    write_table(ward)
    for path in late:
        path.rename(workspace.root / path.name)
    ingest(undisturbed, "ward", elsewhere)
    for path in late:
        (workspace.root / path.name).rename(path)
    write_table(rows)
    ingest(undisturbed, "ward", elsewhere)
    assert _files(undisturbed.exams("ward")) == completed


def test_a_refused_source_leaves_the_dataset_as_it_was(
    workspace, dataset, ward, write_exam, write_table
):
    write_table([row for row in ward if row[2] == "no"])
    with pytest.raises(UserError, match="all exams have one label"):
        ingest(workspace, "ward", dataset)
    assert not workspace.exams("ward").exists()


def test_nothing_but_damaged_files_is_refused_and_says_where_the_reasons_are(
    workspace, dataset, ward
):
    for name, _, _ in ward:
        (workspace.inbox("ward") / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"no exam is left.*data/quarantine/ward\.csv"):
        ingest(workspace, "ward", dataset)
    assert len(_quarantine(workspace)) == 12


@pytest.mark.parametrize("rare", ["refuse", "leave_out"])
def test_a_class_of_two_patients_is_refused_or_left_out(
    workspace, ward, write_exam, write_table, rare
):
    dataset = FolderDataset(
        source="folder",
        classes=("no", "yes", "odd"),
        identifiers="public",
        rare_classes=rare,
        settle=0,
    )
    write_exam("20.nii", 20)
    write_exam("21.nii", 21)
    write_table([*ward, ("20.nii", "20", "odd"), ("21.nii", "21", "odd")])
    if rare == "refuse":
        with pytest.raises(UserError, match=r"class 'odd' has 2 patients.*rare_classes: leave_out"):
            ingest(workspace, "ward", dataset)
        return
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.left_out) == (12, 2)
    assert set(_table(workspace)["label"]) == {"no", "yes"}
    write_exam("22.nii", 22)
    rows = [(f"{n}.nii", f"{n}", "odd") for n in (20, 21, 22)]
    write_table([*ward, *rows])
    assert ingest(workspace, "ward", dataset).accepted == 3


def test_official_splits_are_taken(workspace, dataset, ward, write_table):
    splits = ["train"] * 6 + ["val"] * 4 + ["test"] * 2
    rows = [(*row, split) for row, split in zip(ward, splits, strict=True)]
    write_table(rows, ("file", "patient_id", "label", "split"))
    ingest(workspace, "ward", dataset)
    counts = _table(workspace)["split"].value_counts().to_dict()
    assert counts == {"train": 6, "validation": 4, "test": 2}


def test_an_official_split_other_than_the_settled_one_is_refused(
    workspace, dataset, ward, write_table
):
    ingest(workspace, "ward", dataset)
    write_table([(*row, "train") for row in ward], ("file", "patient_id", "label", "split"))
    before = _files(workspace.data)
    with pytest.raises(UserError, match="listed in train, its patient is settled in"):
        ingest(workspace, "ward", dataset)
    assert _files(workspace.data) == before


@pytest.mark.parametrize("copy_first", [False, True])
def test_pixels_in_two_official_splits_stay_in_the_most_held_out_one_and_are_counted(
    workspace, dataset, ward, write_exam, write_table, copy_first
):
    write_exam("copy.nii", 0)
    splits = ["train"] * 6 + ["val"] * 4 + ["test"] * 2
    rows = [(file, "", label, split) for (file, _, label), split in zip(ward, splits, strict=True)]
    copy = ("copy.nii", "", "no", "test")
    rows = [copy, *rows] if copy_first else [*rows, copy]
    write_table(rows, ("file", "patient_id", "label", "split"))
    report = ingest(workspace, "ward", dataset)
    assert (report.accepted, report.duplicates, report.across_splits) == (12, 1, 1)
    assert _accounted(report)
    exam = exam_id(read(workspace.inbox("ward") / "0.nii").frames)
    assert _table(workspace).set_index("exam_id").at[exam, "split"] == "test"


def test_a_duplicate_within_a_split_is_not_counted_as_one_across(
    workspace, dataset, ward, write_exam, write_table
):
    write_exam("copy.nii", 0)
    write_table([*ward, ("copy.nii", "000", "no")])
    assert ingest(workspace, "ward", dataset).across_splits == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("path", "exams"),
        ("path", "data/inbox/../exams"),
        ("path", "data/inbox/link"),
        ("path", "data"),
        ("labels", "../../../labels.csv"),
    ],
)
def test_exams_and_tables_in_the_workspace_but_not_in_the_inbox_are_refused(
    workspace, dataset, ward, setting, value
):
    (workspace.root / "exams").mkdir()
    (workspace.inbox("link")).symlink_to(workspace.root / "exams")
    changed = dataset.model_copy(update={setting: value})
    with pytest.raises(UserError, match=rf"^datasets\.ward\.{setting}: .* lies in the workspace"):
        ingest(workspace, "ward", changed)


def test_an_inbox_that_is_a_link_to_elsewhere_in_the_workspace_is_refused(workspace, dataset, ward):
    (workspace.data / "inbox").rename(workspace.root / "incoming")
    (workspace.data / "inbox").symlink_to(workspace.root / "incoming")
    with pytest.raises(UserError, match="incoming/ward lies in the workspace"):
        ingest(workspace, "ward", dataset)


def test_a_workspace_that_is_reached_by_a_link_has_one_inbox_and_nothing_else(
    workspace, dataset, ward, tmp_path
):
    (tmp_path / "link").symlink_to(workspace.root)
    linked = dataclasses.replace(workspace, root=tmp_path / "link")
    with pytest.raises(UserError, match="data lies in the workspace"):
        ingest(linked, "ward", dataset.model_copy(update={"path": "data"}))
    assert ingest(linked, "ward", dataset).accepted == 12


def test_a_link_from_outside_into_the_workspace_is_followed(workspace, dataset, ward, tmp_path):
    (workspace.inbox("ward")).rename(workspace.root / "exams")
    (tmp_path / "link").symlink_to(workspace.root / "exams")
    changed = dataset.model_copy(update={"path": str(tmp_path / "link")})
    with pytest.raises(UserError, match="exams lies in the workspace"):
        ingest(workspace, "ward", changed)


def test_an_inbox_that_is_a_link_to_a_folder_outside_is_read(workspace, dataset, ward, tmp_path):
    (workspace.data / "inbox").rename(tmp_path / "archive")
    (workspace.data / "inbox").symlink_to(tmp_path / "archive")
    assert ingest(workspace, "ward", dataset).accepted == 12


def test_what_a_dataset_is_made_of_does_not_change(workspace, dataset, ward):
    ingest(workspace, "ward", dataset)
    changed = dataset.model_copy(update={"slice_axis": 0})
    with pytest.raises(UserError, match=r"datasets\.ward\.slice_axis: was 'auto'.*and is 0"):
        ingest(workspace, "ward", changed)


def test_another_key_is_refused(workspace, ward, tmp_path, monkeypatch):
    dataset = FolderDataset(source="folder", classes=("no", "yes"), settle=0)
    for name in ("one", "other"):
        create_key(tmp_path / name)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "one"))
    ingest(workspace, "ward", dataset)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "other"))
    with pytest.raises(UserError, match="the key is not the one"):
        ingest(workspace, "ward", dataset)


def test_a_version_in_git_without_its_exams_is_not_started_anew(workspace, dataset, ward):
    workspace.pointer("ward").parent.mkdir(parents=True)
    workspace.pointer("ward").touch()
    with pytest.raises(UserError, match=r"dvc pull data/exams/ward\.dvc"):
        ingest(workspace, "ward", dataset)


def test_phantoms_come_in_by_the_same_door(workspace):
    dataset = PhantomDataset(
        source="phantom", kind="volume", exams=12, classes=("healthy", "lesion")
    )
    report = ingest(workspace, "spots", dataset)
    assert report.accepted == 12
    table = manifest.read(workspace.manifest("spots"))
    assert (table["informative"].str.len() > 0).equals(table["label"] == "lesion")
    grown = dataset.model_copy(update={"exams": 16})
    report = ingest(workspace, "spots", grown)
    assert (report.present, report.accepted, report.batch) == (12, 4, "0002")
    assert np.unique(table["patient"]).size == 6


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 7), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_an_exam_that_has_grown_takes_the_place_of_what_was_there(
    workspace, dataset, ward, write_table
):
    folder = workspace.inbox("ward") / "series"
    for number in range(3):
        _picture(folder / f"{number}.png", number)
    write_table([*ward, ("series", "099", "no")])
    assert ingest(workspace, "ward", dataset).accepted == 12 + 3
    _picture(folder / "3.png", 3)
    write_table([*ward, ("series", "099", "yes")])
    report = ingest(workspace, "ward", dataset)
    assert (report.exams, report.removed, report.accepted) == (13, 1, 4)
    assert sorted(_table(workspace)["frames"])[0] == 4
    assert _accounted(report)


def test_an_emptied_label_takes_an_exam_out_also_when_its_file_was_touched(
    workspace, dataset, ward, write_table
):
    ingest(workspace, "ward", dataset)
    write_table([("0.nii", "000", ""), *ward[1:]])
    os.utime(workspace.inbox("ward") / "0.nii", ns=(1, 1))
    report = ingest(workspace, "ward", dataset)
    assert (report.exams, report.waiting, report.removed) == (11, 1, 1)


@pytest.fixture
def read_again(monkeypatch) -> list[object]:
    """What is given to workers from now on."""
    given: list[object] = []
    real = Workers.map

    def watched(self, function, items):
        items = list(items)
        given.extend(items)
        return real(self, function, items)

    monkeypatch.setattr(Workers, "map", watched)
    return given


def test_changed_limits_read_nothing_again(workspace, dataset, ward, read_again):
    ingest(workspace, "ward", dataset)
    assert len(read_again) == 12
    changed = dataset.model_copy(update={"limits": Limits(seconds=5)})
    assert ingest(workspace, "ward", changed).present == 12
    assert len(read_again) == 12


def test_a_damaged_file_is_not_read_again_until_that_is_asked_for(
    workspace, dataset, ward, read_again
):
    path = workspace.inbox("ward") / "7.nii"
    path.write_bytes(path.read_bytes()[:400])
    ingest(workspace, "ward", dataset)
    before = _quarantine(workspace)
    del read_again[:]
    assert ingest(workspace, "ward", dataset).quarantined == 1
    assert (read_again, _quarantine(workspace)) == ([], before)
    assert ingest(workspace, "ward", dataset, retry=True).quarantined == 1
    assert len(read_again) == 1


def test_dates_are_kept_as_the_setting_says(workspace, dataset, ward, write_table):
    columns = ("file", "patient_id", "label", "acquired")
    days = ["2024-03-01", "2024-03-11", "0001-01-01", *[""] * 9]
    rows = [(*row, day) for row, day in zip(ward, days, strict=True)]
    rows[1] = (rows[1][0], "000", *rows[1][2:])  # of the first one's patient
    write_table(rows, columns)
    kept = {}
    for how in ("full", "year", "shifted"):
        other = dataclasses.replace(workspace, root=workspace.root.with_name(how))
        settings = dataset.model_copy(update={"path": str(workspace.inbox("ward")), "dates": how})
        ingest(other, "ward", settings)
        table = manifest.read(other.manifest("ward"))
        kept[how] = sorted(table["acquired"])
    assert kept["full"][:3] == ["0001-01-01", "2024-03-01", "2024-03-11"]
    assert kept["year"][:3] == ["0001", "2024", "2024"]
    one, other = (date.fromisoformat(day) for day in kept["shifted"] if day.startswith("20"))
    assert (other - one).days == 10
    assert one.isoformat() != "2024-03-01"

"""The table of labels, and what it says of the exams in a folder."""

import os

import pytest

from keyslice.config import FolderDataset
from keyslice.errors import UserError
from keyslice.exams.offer import NO_LINE, Offer, of_folder
from keyslice.exams.workers import Workers

COLUMNS = ("file", "patient_id", "label")


def _offer(workspace, dataset) -> Offer:
    with Workers(dataset.limits) as workers:
        return of_folder(workspace.inbox("ward"), dataset, "ward", workers=workers)


def test_ids_and_labels_are_text_with_their_leading_zeros(workspace, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", "007", "01")])
    dataset = FolderDataset(source="folder", classes=("01", "1"), issuer="ris", settle=0)
    (listing,) = _offer(workspace, dataset).listings
    assert listing.patient == ("ris", "007")
    assert listing.label == "01"


def test_optional_columns_are_read(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    columns = (
        *COLUMNS,
        "issuer",
        "site",
        "acquired",
        "modality",
        "split",
        "informative",
        "labeller",
    )
    row = ("a.nii", "1", "no", "pacs", "north", "2024-03-01", "CT", "val", "3 1", "Dr No")
    write_table([row], columns)
    (listing,) = _offer(workspace, dataset).listings
    assert listing.patient == ("pacs", "1")
    assert (listing.site, listing.acquired, listing.modality) == ("north", "2024-03-01", "CT")
    assert (listing.split, listing.informative, listing.labeller) == ("validation", (1, 3), "Dr No")


def test_an_empty_informative_cell_means_that_no_frame_is(
    workspace, dataset, write_exam, write_table
):
    write_exam("a.nii", 0)
    write_table([("a.nii", "1", "no", "")], (*COLUMNS, "informative"))
    assert _offer(workspace, dataset).listings[0].informative == ()


def test_a_spreadsheets_byte_order_mark_is_dropped(workspace, dataset, ward):
    table = workspace.inbox("ward") / "labels.csv"
    table.write_text("\ufeff" + table.read_text(), encoding="utf-8")
    assert len(_offer(workspace, dataset).listings) == 12


def test_exams_without_a_line_wait_and_what_is_no_exam_is_skipped(
    workspace, dataset, ward, write_exam
):
    write_exam("sub/extra.nii.gz", 50)
    (workspace.inbox("ward") / "notes.txt").touch()
    found = _offer(workspace, dataset)
    assert found.waiting == {"sub/extra.nii.gz": NO_LINE}
    assert found.skipped == {"labels.csv": "the table of labels", "notes.txt": "of no known format"}


def test_public_data_may_lack_patient_ids(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", "", "no")])
    assert _offer(workspace, dataset).listings[0].patient is None


def test_a_table_may_lie_elsewhere(workspace, dataset, ward, tmp_path):
    (workspace.inbox("ward") / "labels.csv").rename(tmp_path / "truth.csv")
    elsewhere = dataset.model_copy(update={"labels": str(tmp_path / "truth.csv")})
    found = _offer(workspace, elsewhere)
    assert len(found.listings) == 12
    assert found.skipped == {}


def test_a_missing_table_is_named(workspace, dataset, write_exam):
    write_exam("a.nii", 0)
    with pytest.raises(UserError, match=r"datasets\.ward\.labels: no table of labels .*labels.csv"):
        _offer(workspace, dataset)


def test_a_missing_label_column_is_named_with_the_nearest_one(workspace, ward):
    dataset = FolderDataset(source="folder", classes=("no", "yes"), label_column="lable", settle=0)
    with pytest.raises(UserError, match=r"no column 'lable'.*did you mean 'label'"):
        _offer(workspace, dataset)


def test_a_table_without_a_header_is_refused_without_quoting_its_first_line(
    workspace, dataset, write_table
):
    write_table([], ("file_Roe", "patient_id", "no"))
    with pytest.raises(UserError, match="no column 'file'") as error:
        _offer(workspace, dataset)
    assert "Roe" not in str(error.value)


def test_a_missing_patient_column_is_named(workspace, dataset, write_table):
    write_table([], ("file", "label"))
    with pytest.raises(UserError, match="no column 'patient_id'"):
        _offer(workspace, dataset)


def test_a_binary_file_is_no_table(workspace, dataset, write_table):
    write_table([])
    (workspace.inbox("ward") / "labels.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as a table"):
        _offer(workspace, dataset)


def test_a_folder_is_no_table(workspace, dataset, ward):
    changed = dataset.model_copy(update={"labels": "."})
    with pytest.raises(UserError, match=r"datasets\.ward\.labels: .*cannot be read \(Is a dir"):
        _offer(workspace, changed)


def test_a_quote_that_is_not_closed_is_refused(workspace, dataset, ward):
    with (workspace.inbox("ward") / "labels.csv").open("a") as table:
        table.write('0.nii,"1,no\n')
    with pytest.raises(UserError, match="cannot be read as a table"):
        _offer(workspace, dataset)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("closed", ["sub", "labels.csv"])
def test_what_this_account_may_not_read_is_told_without_its_name(
    workspace, dataset, ward, write_exam, closed
):
    write_exam("sub/x.nii", 70)
    path = workspace.inbox("ward") / closed
    path.chmod(0)
    try:
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            _offer(workspace, dataset)
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize(
    ("row", "columns", "fault"),
    [
        (("a.nii", "Roe", "Ann", "no"), COLUMNS, "line 2: has 4 fields.* as many as the first, 3"),
        (("a.nii", "1"), COLUMNS, "line 2: has 2 fields"),
        (("a.nii", "1", "no", "1"), (*COLUMNS, "label"), "line 1: names columns 3 and 4 alike"),
    ],
)
def test_a_table_that_is_no_table_is_refused_as_a_whole(
    workspace, dataset, write_exam, write_table, row, columns, fault
):
    write_exam("a.nii", 0)
    write_table([row], columns)
    with pytest.raises(UserError, match=fault):
        _offer(workspace, dataset)


@pytest.mark.parametrize(
    ("row", "columns", "fault"),
    [
        (("a.nii", "1", "no", "dev"), (*COLUMNS, "split"), "line 2 has an unknown split"),
        (("a.nii", "1", "no", ""), (*COLUMNS, "split"), "line 2 has an unknown split"),
        (("a.nii", "1", "no", "1;2"), (*COLUMNS, "informative"), "more than frame numbers"),
        (("a.nii", "1", "no", "March"), (*COLUMNS, "acquired"), "column acquired no date"),
    ],
)
def test_a_bad_line_is_an_error_about_its_exam_alone(
    workspace, dataset, write_exam, write_table, row, columns, fault
):
    good = {"split": "train", "informative": "1", "acquired": "2024-03-01"}[columns[-1]]
    for seed, name in enumerate(("a.nii", "b.nii")):
        write_exam(name, seed)
    write_table([row, ("b.nii", "2", "no", good)], columns)
    found = _offer(workspace, dataset)
    assert [listing.name for listing in found.listings] == ["b.nii"]
    ((name, (reason, kind)),) = found.refused.items()
    assert (name, kind) == ("a.nii", "table")
    assert fault in reason


@pytest.mark.parametrize("row", [("gone.nii", "1", "no"), ("", "1", "no"), ("../a.nii", "1", "no")])
def test_a_line_that_names_nothing_here_is_counted(
    workspace, dataset, write_exam, write_table, row
):
    write_exam("a.nii", 0)
    write_exam("../a.nii", 0)
    write_table([row, ("a.nii", "1", "no")])
    found = _offer(workspace, dataset)
    assert (len(found.listings), found.unused_lines) == (1, 1)


def test_a_line_of_an_empty_file_or_of_one_still_arriving_names_what_is_here(
    workspace, dataset, write_exam, write_table
):
    write_exam("a.nii", 0)
    folder = workspace.inbox("ward")
    (folder / "empty.nii").touch()
    (folder / "b.nii.part").write_bytes(b"half")
    write_table([(name, "1", "no") for name in ("a.nii", "empty.nii", "b.nii.part")])
    found = _offer(workspace, dataset)
    assert (len(found.listings), found.unused_lines) == (1, 0)


@pytest.mark.parametrize(("label", "why"), [("", "is empty"), ("nein", "none of the classes")])
def test_a_label_that_is_no_class_waits(workspace, dataset, write_exam, write_table, label, why):
    write_exam("a.nii", 0)
    write_table([("a.nii", "1", label)])
    found = _offer(workspace, dataset)
    assert not found.listings
    assert why in found.waiting["a.nii"]


@pytest.mark.parametrize("again", ["a.nii", "./a.nii", ".//a.nii"])
@pytest.mark.parametrize(
    ("second", "what"), [(("2", "no"), "patient"), (("1", "yes"), "label"), (("1", "no"), "")]
)
def test_lines_about_one_exam_must_agree(
    workspace, dataset, write_exam, write_table, again, second, what
):
    write_exam("a.nii", 0)
    write_table([("a.nii", "1", "no"), (again, *second)])
    found = _offer(workspace, dataset)
    assert len(found.listings) == (not what)
    if what:
        reason, _ = found.refused["a.nii"]
        assert f"line 3 names another {what} than line 2 does for the same exam" in reason


def test_a_path_that_begins_with_a_dot_names_the_same_file(
    workspace, dataset, write_exam, write_table
):
    write_exam("sub/a.nii", 0)
    write_table([("./sub/a.nii", "1", "no")])
    found = _offer(workspace, dataset)
    assert [listing.name for listing in found.listings] == ["sub/a.nii"]


@pytest.mark.parametrize(
    "row",
    [
        ("a.nii", "yes", "Roe_Ann", "train", "1", "2024-03-01"),
        ("a.nii", "1", "yes", "Roe_Ann", "1", "2024-03-01"),
        ("a.nii", "1", "yes", "train", "Roe_Ann", "2024-03-01"),
        ("a.nii", "1", "yes", "train", "1", "Roe_Ann"),
        ("a.nii", "1", "yes", "train", "1", "Roe_Ann", "2024-03-01"),
    ],
)
def test_a_name_in_the_wrong_column_is_quoted_by_no_message(
    workspace, dataset, write_exam, write_table, row
):
    write_exam("a.nii", 0)
    write_table([row], (*COLUMNS, "split", "informative", "acquired"))
    try:
        found = _offer(workspace, dataset)
    except UserError as error:
        told = str(error)
    else:
        told = f"{found.refused} {found.waiting}"
        assert not found.listings
    assert told.count("a.nii") <= 1
    assert "Roe" not in told


def test_a_patient_in_two_official_splits_is_refused(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    write_exam("b.nii", 1)
    write_table([("a.nii", "1", "no", "train"), ("b.nii", "1", "no", "test")], (*COLUMNS, "split"))
    found = _offer(workspace, dataset)
    assert [listing.name for listing in found.listings] == ["a.nii"]
    assert "line 3 puts the patient of line 2 into test as well" in found.refused["b.nii"][0]


def test_secret_ids_may_not_be_empty(workspace, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", " ", "no")])
    dataset = FolderDataset(source="folder", classes=("no", "yes"), settle=0)
    assert "line 2 has no patient_id" in _offer(workspace, dataset).refused["a.nii"][0]

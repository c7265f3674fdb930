import os

import pytest

from keyslice.config import FolderDataset
from keyslice.errors import UserError
from keyslice.exams.folder import listings

COLUMNS = ("file", "patient_id", "label")


def _listings(workspace, dataset):
    return listings(workspace.inbox("ward"), dataset, "ward")


def test_ids_and_labels_are_text_with_their_leading_zeros(workspace, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", "007", "01")])
    dataset = FolderDataset(source="folder", classes=("01", "1"), issuer="ris")
    (listing,), _ = _listings(workspace, dataset)
    assert listing.patient == ("ris", "007")
    assert listing.label == "01"


def test_optional_columns_are_read(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    columns = (*COLUMNS, "issuer", "site", "acquired", "modality", "split", "informative")
    row = ("a.nii", "1", "no", "pacs", "north", "2024-03-01", "CT", "val", "3 1")
    write_table([row], columns)
    (listing,), _ = _listings(workspace, dataset)
    assert listing.patient == ("pacs", "1")
    assert (listing.site, listing.acquired, listing.modality) == ("north", "2024-03-01", "CT")
    assert listing.split == "validation"
    assert listing.informative == (1, 3)


def test_an_empty_informative_cell_means_that_no_frame_is(
    workspace, dataset, write_exam, write_table
):
    write_exam("a.nii", 0)
    write_table([("a.nii", "1", "no", "")], (*COLUMNS, "informative"))
    (listing,), _ = _listings(workspace, dataset)
    assert listing.informative == ()


def test_a_spreadsheets_byte_order_mark_is_dropped(workspace, dataset, ward):
    table = workspace.inbox("ward") / "labels.csv"
    table.write_text("\ufeff" + table.read_text(), encoding="utf-8")
    assert len(_listings(workspace, dataset)[0]) == 12


def test_exam_files_without_a_line_are_reported(workspace, dataset, ward, write_exam):
    write_exam("sub/extra.nii.gz", 50)
    (workspace.inbox("ward") / "notes.txt").touch()
    assert [file.name for file in _listings(workspace, dataset)[1]] == ["sub/extra.nii.gz"]


def test_public_data_may_lack_patient_ids(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", "", "no")])
    assert _listings(workspace, dataset)[0][0].patient is None


def test_a_missing_folder_is_named(workspace, dataset):
    with pytest.raises(UserError, match=r"datasets\.ward\.path: no folder .*inbox/ward"):
        _listings(workspace, dataset)


def test_a_missing_table_is_named(workspace, dataset, write_exam):
    write_exam("a.nii", 0)
    with pytest.raises(UserError, match=r"datasets\.ward\.labels: no table of labels .*labels.csv"):
        _listings(workspace, dataset)


def test_a_missing_label_column_is_named_with_the_nearest_one(workspace, ward):
    dataset = FolderDataset(source="folder", classes=("no", "yes"), label_column="lable")
    with pytest.raises(UserError, match=r"no column 'lable'.*did you mean 'label'"):
        _listings(workspace, dataset)


def test_a_table_without_a_header_is_refused_without_quoting_its_first_line(
    workspace, dataset, write_table
):
    write_table([], ("file_Roe", "patient_id", "no"))
    with pytest.raises(UserError, match="no column 'file'") as error:
        _listings(workspace, dataset)
    assert "Roe" not in str(error.value)


def test_a_missing_patient_column_is_named(workspace, dataset, write_table):
    write_table([], ("file", "label"))
    with pytest.raises(UserError, match="no column 'patient_id'"):
        _listings(workspace, dataset)


def test_a_binary_file_is_no_table(workspace, dataset, write_table):
    write_table([])
    (workspace.inbox("ward") / "labels.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as a table"):
        _listings(workspace, dataset)


@pytest.mark.parametrize(
    ("row", "columns", "fault"),
    [
        (
            ("a.nii", "1", "nein"),
            COLUMNS,
            "line 2: column label holds an unknown label.* are no, yes",
        ),
        (("gone.nii", "1", "no"), COLUMNS, "line 2: the file is not there"),
        (("", "1", "no"), COLUMNS, "line 2: names no file"),
        (("../a.nii", "1", "no"), COLUMNS, "line 2: the file lies outside"),
        (("/etc/hostname", "1", "no"), COLUMNS, "line 2: the file lies outside"),
        (("out.nii", "1", "no"), COLUMNS, "line 2: the file lies outside"),
        (("x" * 300, "1", "no"), COLUMNS, "line 2: the file cannot be looked for"),
        (("a\0.nii", "1", "no"), COLUMNS, "line 2: the file cannot be looked for"),
        (("a.nii", "Roe", "Ann", "no"), COLUMNS, "line 2: has 4 fields.* as many as the first, 3"),
        (("a.nii", "1"), COLUMNS, "line 2: has 2 fields"),
        (("a.nii", "1", "no", "1"), (*COLUMNS, "label"), "line 1: names columns 3 and 4 alike"),
        (("a.nii", "1", "no", "dev"), (*COLUMNS, "split"), "column split holds an unknown split"),
        (("a.nii", "1", "no", ""), (*COLUMNS, "split"), "column split holds an unknown split"),
        (
            ("a.nii", "1", "no", "1;2"),
            (*COLUMNS, "informative"),
            "line 2: column informative holds more than",
        ),
        (
            ("a.nii", "1", "no", "March"),
            (*COLUMNS, "acquired"),
            "line 2: column acquired holds no date",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number(
    workspace, dataset, write_exam, write_table, row, columns, fault
):
    write_exam("a.nii", 0)
    write_exam("../a.nii", 0)
    (workspace.inbox("ward") / "out.nii").symlink_to(workspace.params)
    write_table([row], columns)
    with pytest.raises(UserError, match=fault):
        _listings(workspace, dataset)


@pytest.mark.parametrize("again", ["a.nii", "./a.nii", ".//a.nii"])
def test_a_file_listed_twice_is_refused(workspace, dataset, write_exam, write_table, again):
    write_exam("a.nii", 0)
    write_table([("a.nii", "1", "no"), (again, "2", "no")])
    with pytest.raises(UserError, match="line 3: lists the file of line 2 again"):
        _listings(workspace, dataset)


def test_a_path_that_begins_with_a_dot_names_the_same_file(
    workspace, dataset, write_exam, write_table
):
    write_exam("sub/a.nii", 0)
    write_table([("./sub/a.nii", "1", "no")])
    (listing,), unlisted = _listings(workspace, dataset)
    assert (listing.name, unlisted) == ("sub/a.nii", [])


@pytest.mark.parametrize(
    "row",
    [
        ("a.nii", "yes", "Roe_Ann", "train", "1", "2024-03-01"),
        ("a.nii", "1", "yes", "Roe_Ann", "1", "2024-03-01"),
        ("a.nii", "1", "yes", "train", "Roe_Ann", "2024-03-01"),
        ("a.nii", "1", "yes", "train", "1", "Roe_Ann"),
        ("Roe_Ann", "1", "yes", "train", "1", "2024-03-01"),
        ("Roe_Ann" * 50, "1", "yes", "train", "1", "2024-03-01"),
        ("/Roe_Ann", "1", "yes", "train", "1", "2024-03-01"),
        ("a.nii", "1", "yes", "train", "1", "Roe_Ann", "2024-03-01"),
    ],
)
def test_a_name_in_the_wrong_column_is_quoted_by_no_error(
    workspace, dataset, write_exam, write_table, row
):
    write_exam("a.nii", 0)
    write_table([row], (*COLUMNS, "split", "informative", "acquired"))
    with pytest.raises(UserError, match="line 2") as error:
        _listings(workspace, dataset)
    assert "Roe" not in str(error.value)


def test_a_folder_is_no_table(workspace, dataset, ward):
    changed = dataset.model_copy(update={"labels": "."})
    with pytest.raises(UserError, match=r"datasets\.ward\.labels: .*cannot be read \(Is a dir"):
        _listings(workspace, changed)


def test_a_quote_that_is_not_closed_is_refused(workspace, dataset, ward):
    with (workspace.inbox("ward") / "labels.csv").open("a") as table:
        table.write('0.nii,"1,no\n')
    with pytest.raises(UserError, match="cannot be read as a table"):
        _listings(workspace, dataset)


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
            _listings(workspace, dataset)
    finally:
        path.chmod(0o700)


def test_a_patient_in_two_official_splits_is_refused(workspace, dataset, write_exam, write_table):
    write_exam("a.nii", 0)
    write_exam("b.nii", 1)
    write_table([("a.nii", "1", "no", "train"), ("b.nii", "1", "no", "test")], (*COLUMNS, "split"))
    with pytest.raises(UserError, match="line 3: puts the patient of line 2 into test as well"):
        _listings(workspace, dataset)


def test_secret_ids_may_not_be_empty(workspace, write_exam, write_table):
    write_exam("a.nii", 0)
    write_table([("a.nii", " ", "no")])
    dataset = FolderDataset(source="folder", classes=("no", "yes"))
    with pytest.raises(UserError, match="line 2: has no patient_id"):
        _listings(workspace, dataset)

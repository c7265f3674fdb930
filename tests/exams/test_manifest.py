import random

import pandera.errors
import pyarrow
import pyarrow.parquet as pq
import pytest

from keyslice.errors import UserError
from keyslice.exams import manifest, manifest_columns
from tests.provenance.story import row


def _row(number: int, **changes):
    own = {
        "batch": f"{number // 3 + 1:04d}",
        "informative": [1, 2] if number % 2 else None,
        "frame_spacing": 4.0 if number % 2 else None,
    }
    return row(f"{number:032x}", f"{number // 2:032x}") | own | changes


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    rows = [_row(n) for n in range(9)]
    manifest.write(manifest.frame(rows), tmp_path / "a.parquet", {"source": "folder"})
    random.Random(0).shuffle(rows)
    manifest.write(manifest.frame(rows), tmp_path / "b.parquet", {"source": "folder"})
    assert manifest.version_hash(tmp_path / "a.parquet") == manifest.version_hash(
        tmp_path / "b.parquet"
    )


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [_row(n) for n in range(4)]
    manifest.write(manifest.frame(rows), tmp_path / "a.parquet", {"source": "folder"})
    back = manifest.rows(manifest.read(tmp_path / "a.parquet"))
    absent = {"frame_spacing": None, "row_spacing": None, "column_spacing": None}
    for one in rows:
        assert back[one["exam_id"]] == absent | {"frame_time": None} | one


def test_an_unchanged_manifest_is_not_written_again(tmp_path):
    path = tmp_path / "a.parquet"
    manifest.write(manifest.frame([_row(0)]), path, {})
    before = path.stat()
    manifest.write(manifest.frame([_row(0)]), path, {})
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_what_the_dataset_is_made_of_is_kept(tmp_path):
    manifest.write(manifest.frame([_row(0)]), tmp_path / "a.parquet", {"source": "folder", "n": 1})
    assert manifest_columns.read_identity(tmp_path / "a.parquet") == {"source": "folder", "n": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"exam_id": "../x"},
        {"patient": "Doe"},
        {"split": "val"},
        {"channels": 2},
        {"frames": 0},
        {"frame_spacing": -1.0},
        {"label": ""},
        {"sha256": "0"},
        {"patient": f"{0:032x}", "split": "test"},
        {"exam_id": f"{0:032x}"},
    ],
)
def test_a_row_that_breaks_a_rule_is_refused(changes):
    with pytest.raises(pandera.errors.SchemaError):
        manifest.frame([_row(0), _row(7, **changes)])


READERS = (manifest.read, manifest_columns.read_splits, manifest_columns.read_identity)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kept", [0, 5, -9])
def test_a_damaged_manifest_names_the_way_out(tmp_path, read, kept):
    path = tmp_path / "data" / "exams" / "ward" / "manifest.parquet"
    manifest.write(manifest.frame([_row(0)]), path, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"^data/exams/ward/manifest.parquet: .*exams/ward\.dvc"):
        read(path)


def test_a_manifest_edited_into_two_splits_of_a_patient_is_refused(tmp_path):
    path = tmp_path / "manifest.parquet"
    manifest.write(manifest.frame([_row(0), _row(1)]), path, {})
    table = pq.read_table(path)
    splits = pyarrow.array(["train", "test"])
    pq.write_table(table.set_column(table.schema.get_field_index("split"), "split", splits), path)
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        manifest.read(path)


def test_the_splits_are_those_of_patients_or_of_exams_without_a_known_one(tmp_path):
    path = tmp_path / "manifest.parquet"
    unknown = _row(9, patient="unknown", split="test")
    manifest.write(manifest.frame([_row(2), _row(3), unknown]), path, {})
    assert manifest_columns.read_splits(path) == {f"{1:032x}": "train", f"{9:032x}": "test"}

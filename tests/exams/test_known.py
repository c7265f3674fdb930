import numpy as np
import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import container, known, manifest
from keyslice.exams.exam import Exam, exam_path

ROW = {
    "patient": "unknown",
    "label": "yes",
    "split": "train",
    "batch": "0001",
    "frames": 2,
    "height": 4,
    "width": 4,
    "channels": 1,
    "dtype": "uint8",
    "modality": "CT",
    "site": "unknown",
    "acquired": "unknown",
    "source_format": "nifti",
    "sha256": "0" * 64,
    "label_source": "test",
    "labeller": "unknown",
    "facts": "{}",
    "difference_hash": "0" * 48,
    "constant_frames": 0,
    "intensity_mean": 0.0,
    "intensity_sd": 0.0,
    "intensity_low": 0.0,
    "intensity_high": 0.0,
}
A, B = "abcdef0" + "0" * 25, "abcdef1" + "0" * 25


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """Dataset one holds A and B, dataset two holds B."""
    made = Workspace(tmp_path)
    for dataset, exams in (("one", [A, B]), ("two", [B])):
        path = made.manifest(dataset)
        path.parent.mkdir(parents=True)
        manifest.write(manifest.frame([ROW | {"exam_id": exam} for exam in exams]), path, {})
    return made


def test_the_first_digits_find_an_exam_where_no_other_has_them(workspace):
    found = known.find(workspace, ["none", "one", "two"], "abcdef0")
    assert (found.dataset, found.row["exam_id"], found.row["informative"]) == ("one", A, None)


def test_an_exam_of_several_datasets_is_that_of_the_first_asked(workspace):
    assert known.find(workspace, ["one", "two"], B).dataset == "one"
    assert known.find(workspace, ["two", "one"], B).dataset == "two"


def test_digits_that_several_exams_have_are_refused_with_their_ids(workspace):
    with pytest.raises(UserError, match=rf"2 exams.*{A} \(one\), {B} \(one\); give more"):
        known.find(workspace, ["one", "two"], "abcdef")


def test_an_unknown_id_is_told_with_where_ids_stand(workspace):
    with pytest.raises(UserError, match=r"begins with 012345; .*data/exams/DATASET.*or the path"):
        known.find(workspace, ["one"], "012345")


@pytest.mark.parametrize(
    ("text", "right"), [("abcdef", True), ("abcde", False), ("abcdeg", False), (A + "0", False)]
)
def test_an_id_has_six_to_32_hex_digits(text, right):
    assert known.is_id(text) == right


def test_a_stored_exam_is_read_and_one_missing_or_damaged_is_told(workspace):
    found = known.find(workspace, ["one"], A)
    path = exam_path(workspace.exams("one"), A)
    with pytest.raises(UserError, match=rf"exam {A} is not there.*dvc checkout"):
        known.load(workspace, found)
    frames = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    container.save(Exam(frames), path)
    assert (known.load(workspace, found).frames == frames).all()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=f"exam {A} cannot be read"):
        known.load(workspace, found)

import pytest

from keyslice.errors import UserError
from keyslice.exams.quarantine import Refusal, barred, read, update

BROKEN = Refusal("a, b.nii", "damaged", "unreadable", "2024-01-02")
DISPUTED = Refusal("c.nii", "under two patients", "two_patients", "2024-01-02", "e" * 32)


def test_the_list_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "list.csv"
    assert read(path) == []
    update(path, [DISPUTED, BROKEN], {"a, b.nii", "c.nii"})
    assert read(path) == [BROKEN, DISPUTED]


def test_the_date_of_first_sight_is_kept(tmp_path):
    path = tmp_path / "list.csv"
    update(path, [BROKEN], {BROKEN.file})
    before = path.stat().st_mtime_ns
    later = Refusal(BROKEN.file, BROKEN.reason, BROKEN.kind, "2025-05-05")
    assert update(path, [later], {BROKEN.file}) == [BROKEN]
    assert path.stat().st_mtime_ns == before


def test_a_file_that_is_well_again_leaves_the_list(tmp_path):
    path = tmp_path / "list.csv"
    update(path, [BROKEN], {BROKEN.file})
    assert update(path, [], {BROKEN.file}) == []
    assert not path.exists()


def test_a_conflict_stays_when_its_file_is_gone_and_bars_the_exam(tmp_path):
    path = tmp_path / "list.csv"
    update(path, [DISPUTED, BROKEN], {BROKEN.file, DISPUTED.file})
    assert update(path, [], set()) == [DISPUTED]
    assert barred(read(path), set()) == {DISPUTED.exam: "two_patients"}
    assert barred(read(path), {DISPUTED.file}) == {}


@pytest.mark.parametrize(
    "content", ["file;reason\n", "file,reason,kind,first_seen,exam\nx,y\n", "é"]
)
def test_a_list_edited_into_something_else_is_refused(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="no quarantine list any more"):
        read(path)


def test_a_list_of_which_every_line_was_removed_is_empty(tmp_path):
    (tmp_path / "list.csv").touch()
    assert read(tmp_path / "list.csv") == []

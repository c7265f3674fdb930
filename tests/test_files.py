import pytest

from keyslice import files


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with files.beside(target) as part:
        part.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")

    def write():
        with files.beside(target) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]
    assert target.read_text() == "old"


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "stale").touch()
    with files.folder_beside(target) as part:
        (part / "fresh").touch()
    assert [p.name for p in target.iterdir()] == ["fresh"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").touch()

    def fill():
        with files.folder_beside(target) as part:
            (part / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in target.iterdir()] == ["old"]

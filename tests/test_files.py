import os
import stat
from pathlib import Path

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


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").touch()
    rename = Path.replace

    def refuse(self, to):
        if to == target and not (self / "old").exists():
            raise OSError
        return rename(self, to)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError), files.folder_beside(target) as part:  # noqa: PT011
        (part / "new").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in target.iterdir()] == ["old"]


def test_what_a_persons_umask_forbids_stays_forbidden(tmp_path):
    before = os.umask(0o077)
    try:
        files.write_text(tmp_path / "list.csv", "names")
        with files.folder_beside(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "list.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_others_may_read_what_is_meant_for_them(tmp_path):
    files.write_text(tmp_path / "page.html", "shared")
    files.write_text(tmp_path / "names.csv", "secret", mode=0o600)
    assert (tmp_path / "page.html").stat().st_mode & 0o444 == 0o444 & ~_umask()
    assert (tmp_path / "names.csv").stat().st_mode & 0o077 == 0


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask

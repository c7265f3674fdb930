"""What lies in a folder, and where each file ends."""

import os
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keyslice.config import Limits
from keyslice.exams import discovery
from keyslice.exams.discovery import Discovery, Explorer
from keyslice.exams.folder import scan
from keyslice.exams.source import Reading, StillArrivingError


def explore(
    folder: Path, *, limits: Limits | None = None, settle: float = 0.0, single=()
) -> Discovery:
    explorer = Explorer(
        folder, limits or Limits(), settle=settle, single=single, headers=lambda files: []
    )
    return explorer.explore()


def accounted(found: Discovery) -> list[str]:
    """Names of all files, wherever they were put."""
    units = [file.name for unit in found.units for file in unit.files]
    return sorted([*units, *found.skipped, *found.arriving, *found.refused])


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)


def test_every_file_is_found_once(tmp_path: Path) -> None:
    names = ["a.nii", "sub/b.NII.GZ", "c.mp4", "d.npz", "notes.txt", ".hidden", ".git/config"]
    names += ["Thumbs.db", "DICOMDIR", "e.nii.part", ".f.nii.a1B2c3", "~$g.csv", "empty.nii"]
    for name in names:
        put(tmp_path / name)
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "here.nii").symlink_to("a.nii")
    (tmp_path / "out.nii").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.nii")
    found = explore(tmp_path)
    assert accounted(found) == sorted(name for name, _ in scan(tmp_path))
    assert [unit.name for unit in found.units] == ["a.nii", "c.mp4", "d.npz", "sub/b.NII.GZ"]
    assert sorted(found.arriving) == [".f.nii.a1B2c3", "e.nii.part", "~$g.csv"]
    assert found.refused.keys() == {"empty.nii", "out.nii"}
    assert "leads out" in found.refused["out.nii"]


def test_the_images_of_a_folder_are_one_exam_but_for_those_named_by_themselves(tmp_path) -> None:
    for name in ("one/1.png", "one/2.png", "two/1.png", "cover.png"):
        picture(tmp_path / name)
    found = explore(tmp_path, single=("two/1.png",))
    assert [[file.name for file in unit.files] for unit in found.units] == [
        ["cover.png"],
        ["one/1.png", "one/2.png"],
        ["two/1.png"],
    ]
    one = next(unit for unit in found.units if unit.name == "one/1.png")
    assert {"one/", "one"} <= set(one.keys)


def archive(path: Path, members: dict[str, bytes]) -> zipfile.ZipFile:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return opened


def test_an_archive_is_as_the_folder_of_what_it_holds(tmp_path: Path) -> None:
    archive(tmp_path / "e.zip", {"a/1.nii": b"x", "b.txt": b"x", "__MACOSX/._a": b"x"})
    found = explore(tmp_path)
    assert [unit.name for unit in found.units] == ["e.zip/a/1.nii"]
    assert found.skipped == {
        "e.zip/b.txt": "of no known format",
        "e.zip/__MACOSX/._a": "hidden",
    }
    with found.units[0].files[0].open() as stream:
        assert stream.read() == b"x"


@pytest.mark.parametrize("name", ["../out.nii", "/etc/out.nii", "a/../../out.nii", "C:/out.nii"])
def test_a_path_out_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    archive(tmp_path / "e.zip", {name: b"x", "in.nii": b"x"})
    found = explore(tmp_path)
    assert [unit.name for unit in found.units] == ["e.zip/in.nii"]
    assert list(found.refused.values()) == ["its path leads out of its archive"]


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link.nii")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as opened:
        opened.writestr(entry, "/etc/hostname")
    assert explore(tmp_path).refused == {"e.zip/link.nii": "a link in an archive"}


def test_what_an_archive_would_become_is_bounded(tmp_path: Path) -> None:
    archive(tmp_path / "e.zip", {"big.nii": bytes(10_000), "1.nii": b"x", "2.nii": b"x"})
    found = explore(tmp_path, limits=Limits(memory=5_000, members=2))
    assert [unit.name for unit in found.units] == ["e.zip/1.nii"]
    assert "it would take 10,000 bytes" in found.refused["e.zip/big.nii"]
    assert "more than 2 files" in found.refused["e.zip/2.nii"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\0" * 100])
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "e.zip", content)
    assert explore(tmp_path).refused.keys() == {"e.zip"}


def test_an_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "e.zip", {"inner.zip": b"PK"})
    assert "unpack one" in explore(tmp_path).refused["e.zip/inner.zip"]


def test_a_file_that_is_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    growing, done = put(tmp_path / "a.nii"), put(tmp_path / "b.nii")
    os.utime(done, (time.time() - 60,) * 2)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            with growing.open("ab") as file:
                file.write(b"x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = explore(tmp_path, settle=0.5)
    finally:
        stop.set()
        writer.join()
    assert found.arriving == ["a.nii"]
    assert [unit.name for unit in found.units] == ["b.nii"]


def test_young_files_that_rest_are_taken_after_a_while(tmp_path: Path) -> None:
    put(tmp_path / "a.nii")
    assert [unit.name for unit in explore(tmp_path, settle=0.2).units] == ["a.nii"]


def test_a_file_that_changes_while_it_is_read_is_arriving_not_damaged(tmp_path: Path) -> None:
    put(tmp_path / "a.nii", b"half a file")
    (unit,) = explore(tmp_path).units
    put(tmp_path / "a.nii", b"half a file and more")
    with pytest.raises(StillArrivingError):
        discovery.read(unit, Reading())


def test_a_units_stamp_follows_its_files_and_the_way_of_reading(tmp_path: Path) -> None:
    file = put(tmp_path / "a.nii")
    (unit,) = explore(tmp_path).units
    stamps = {unit.stamp(Reading()), unit.stamp(Reading(slice_axis=0))}
    os.utime(file, ns=(1, 1))
    (unit,) = explore(tmp_path).units
    assert len(stamps | {unit.stamp(Reading())}) == 3


def test_a_series_that_two_patients_have_is_two_exams_and_its_uid_names_neither(tmp_path) -> None:
    owners = {"a/1.dcm": "ann", "a/2.dcm": "ann", "b/1.dcm": "bob"}
    for name in owners:
        put(tmp_path / name)
    explorer = Explorer(
        tmp_path,
        Limits(),
        headers=lambda files: [("exam", "uid", owners[f.name], True, "") for f in files],
    )
    ann, bob = explorer.explore().units
    assert [file.name for file in ann.files] == ["a/1.dcm", "a/2.dcm"]
    assert "uid" not in {*ann.keys, *bob.keys}
    assert ("a" in ann.keys, "b" in bob.keys) == (True, True)


@pytest.mark.parametrize("damage", ["method", "version"])
def test_a_member_that_cannot_be_taken_out_is_refused_by_itself(tmp_path, damage) -> None:
    archive(tmp_path / "e.zip", {"noending": bytes(9000), "a.nii": b"x"})
    content = bytearray((tmp_path / "e.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + (10 if damage == "method" else 6)] = 0x63  # of a kind that nobody knows
    (tmp_path / "e.zip").write_bytes(content)
    found = explore(tmp_path)
    assert accounted(found)
    assert "e.zip/noending" in found.refused or "e.zip" in found.refused


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_counted_each(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as opened:
        for _ in range(3):
            opened.writestr("a.nii", b"x")
    found = explore(tmp_path)
    assert accounted(found) == ["e.zip/a.nii", "e.zip/a.nii (2)", "e.zip/a.nii (3)"]
    assert len(found.refused) == 2


def test_a_member_is_sniffed_without_inflating_it(tmp_path: Path) -> None:
    archive(tmp_path / "e.zip", {"noending": bytes(200_000_000)})
    tracemalloc.start()
    explore(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000

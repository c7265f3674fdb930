"""Whether anything moves in a folder, on real files, by a clock of the test's own."""

from pathlib import Path

import pytest

from keyslice.exams import pulse
from keyslice.exams.pulse import Pulse


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    (folder / "patient" / "series").mkdir(parents=True)
    (folder / "labels.csv").write_text("file,label\n")
    (folder / "patient" / "series" / "1.dcm").write_text("one")
    return folder


def _pulse(inbox: Path, time: Time) -> Pulse:
    return Pulse(inbox, inbox / "labels.csv", 60, time)


def _settled(inbox: Path) -> tuple[Pulse, Time, str]:
    time = Time()
    found = _pulse(inbox, time)
    assert found.look() is None
    time.now += 60
    digest = found.look()
    assert digest is not None
    return found, time, digest


def test_it_is_quiet_after_that_long_without_a_change(inbox: Path) -> None:
    time = Time()
    found = _pulse(inbox, time)
    for moment in range(0, 60, 20):
        time.now = moment
        assert found.look() is None
    time.now = 60
    first = found.look()
    assert first is not None
    assert found.look() == first


def test_a_file_that_grows_keeps_it_from_being_quiet(inbox: Path) -> None:
    time = Time()
    found = _pulse(inbox, time)
    for moment in range(0, 600, 30):
        time.now = moment
        with (inbox / "patient" / "series" / "1.dcm").open("a") as file:
            file.write("more")
        assert found.look() is None


def _new_file(inbox: Path) -> None:
    (inbox / "patient" / "series" / "2.dcm").write_text("two")


def _removed_file(inbox: Path) -> None:
    (inbox / "patient" / "series" / "1.dcm").unlink()


def _renamed_file(inbox: Path) -> None:
    file = inbox / "patient" / "series" / "1.dcm"
    file.rename(file.with_name("one.dcm"))


def _new_folder(inbox: Path) -> None:
    (inbox / "other").mkdir()
    (inbox / "other" / "1.dcm").write_text("three")


def _edited_table(inbox: Path) -> None:
    (inbox / "labels.csv").write_text("file,label\n1.dcm,a\n")


def _removed_table(inbox: Path) -> None:
    (inbox / "labels.csv").unlink()


@pytest.mark.parametrize(
    "change",
    [_new_file, _removed_file, _renamed_file, _new_folder, _edited_table, _removed_table],
)
def test_a_change_wakes_it_and_quiet_again_it_is_another(inbox: Path, change) -> None:
    found, time, before = _settled(inbox)
    change(inbox)
    assert found.look() is None
    time.now += 60
    after = found.look()
    assert after is not None
    assert after != before


def test_a_table_outside_the_folder_is_looked_at(inbox: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n")
    time = Time()
    found = Pulse(inbox, table, 0, time)
    before = found.look()
    table.write_text("file,label\n1.dcm,a\n")
    assert found.look() not in (None, before)


def test_files_of_a_quiet_folder_are_not_looked_at(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, digest = _settled(inbox)
    monkeypatch.setattr(pulse, "scan", lambda *_: pytest.fail("looked at files"))
    assert found.look() == digest


def test_a_folder_that_is_away_is_not_quiet(inbox: Path) -> None:
    found, time, digest = _settled(inbox)
    inbox.rename(inbox.with_name("away"))
    assert found.look() is None
    inbox.with_name("away").rename(inbox)
    found.look()
    time.now += 60
    assert found.look() == digest

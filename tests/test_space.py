"""A full disk is told as such, whichever library met it."""

from collections import namedtuple
from pathlib import Path

import pytest

from keyslice import space
from keyslice.errors import RunError, UserError
from keyslice.versioning import StageFailed

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - as shutil has it


def _free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage(0, 0, size))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "/inbox/Doe_John.nii"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full [SQL: INSERT …]"),
        StageFailed("train@scans-das", 1, "failed: no space left on device (0 MB are free …)"),
        UserError("mlflow.db cannot be opened (database or disk is full)"),
    ],
)
def test_words_of_a_full_disk_count_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _free(monkeypatch, 10**12)
    told = space.explained(tmp_path, error)
    assert str(told).startswith("no space left on device (1000000 MB are free where")
    assert "make space and run it again" in str(told)
    assert "Doe" not in str(told)


def test_a_cause_that_another_error_hides_counts(tmp_path: Path) -> None:
    error = RunError("it did not work")
    error.__cause__ = OSError(28, "No space left on device")
    assert space.explained(tmp_path, error) is not None


def test_a_failure_that_does_not_say_why_counts_where_hardly_anything_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = RuntimeError("PytorchStreamWriter failed writing file")
    _free(monkeypatch, space.LEAST)
    assert space.explained(tmp_path, failed) is None
    _free(monkeypatch, space.LEAST - 1)
    told = space.explained(tmp_path, failed)
    assert str(told).endswith("what failed said: PytorchStreamWriter failed writing file")
    assert space.explained(tmp_path, UserError("no such dataset")) is None


def test_it_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 0)
    told = space.explained(tmp_path, OSError(28, "No space left on device"))
    assert told is not None
    assert space.explained(tmp_path, told) is told
    assert str(space.explained(tmp_path, RunError(f"scans: {told}"))) == str(told)

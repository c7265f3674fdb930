"""The stored exams: each is looked at before it is made part of a version.

A file that has the size and the time of change which were noted is as it was; any other is read
and compared with the manifest's hash. So an ingestion without news costs one `stat` an exam.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.errors import UserError
from keyslice.exams.exam import exam_name, exam_path
from keyslice.exams.source import file_state


class Stored:
    """The exams in a dataset's folder.

    Args:
        folder: that holds them.
        rows: the manifest's, by exam id.
        noted: size in bytes and time of change in nanoseconds of each file that was in order.
    """

    def __init__(
        self,
        folder: Path,
        rows: Mapping[str, Mapping[str, Any]],
        noted: Mapping[str, tuple[int, int]],
    ) -> None:
        self.states: dict[str, tuple[int, int]] = {}
        """Those found or made in order so far."""
        self._folder, self._rows, self._noted = folder, rows, noted
        self._written: dict[str, str] = {}

    def whole(self, exam: str) -> bool:
        """Whether this exam of the manifest, or one written by now, lies there as it was."""
        if exam in self.states:
            return True
        if exam not in self._rows:
            return False
        path = f"{self._folder}/{exam_name(exam)}"
        try:
            state = file_state(os.stat(path))  # noqa: PTH116 - pathlib takes as long as the call
        except FileNotFoundError:
            return False
        if (
            state != self._noted.get(exam)
            and files.sha256(Path(path)) != self._rows[exam]["sha256"]
        ):
            return False
        self.states[exam] = state
        return True

    def put(self, exam: str, part: Path, sha256: str) -> str:
        """Put a file into its place unless the exam is there whole; the SHA-256 of what is there.

        It reaches the disk for certain only with `flush`.
        """
        if self.whole(exam):
            part.unlink()
        else:
            path = exam_path(self._folder, exam)
            part.replace(path)
            self.states[exam] = file_state(path.stat())
            self._written[exam] = sha256
        return self._written.get(exam) or self._rows[exam]["sha256"]

    def flush(self) -> None:
        """To the disk, before a manifest names what was put; one call, not one for each file."""
        if self._written:
            os.sync()

    def check(self, exams: Iterable[str]) -> None:
        """Raises UserError: one of these exams is not as it was ingested."""
        for exam in exams:
            if not self.whole(exam):
                there = exam_path(self._folder, exam).is_file()
                raise UserError(
                    f"exam {exam} {'is not the one that was ingested' if there else 'is missing'}",
                    where="/".join(self._folder.parts[-3:]),
                    rule="a version is made of the exams that its manifest names; the source does "
                    "not offer this one any more",
                    remedy=f"dvc checkout --force data/exams/{self._folder.name}.dvc",
                )

"""An ingested exam, found by the beginning of its id."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import container, manifest
from keyslice.exams.exam import Exam, exam_path

FEWEST_DIGITS = 6
_ID = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}")
_NAMED = 4
"""Exams listed where several are meant."""


@dataclass(frozen=True)
class Known:
    """An exam of a dataset: its row of the manifest, what is not known being None."""

    dataset: str
    row: dict[str, Any]


def is_id(text: str) -> bool:
    """Whether this may be an exam's id or enough of its beginning."""
    return _ID.fullmatch(text) is not None


def find(workspace: Workspace, datasets: Sequence[str], beginning: str) -> Known:
    """The one exam whose id begins so; where several datasets have it, of the first.

    Raises:
        UserError: none begins so, or more than one.
    """
    found: dict[str, Known] = {}
    for dataset in datasets:
        path = workspace.manifest(dataset)
        if path.is_file():
            table = manifest.read(path)
            rows = manifest.rows(table[table["exam_id"].str.startswith(beginning)])
            found = {exam: Known(dataset, row) for exam, row in rows.items()} | found
    if not found:
        _check_erased(workspace, datasets, beginning)
        raise UserError(
            f"no ingested exam has an id that begins with {beginning}",
            rule="an exam's id is the name of its file in data/exams/DATASET",
            remedy="name one of these, or the path of a file that ingest reads",
        )
    if len(found) > 1:
        some = ", ".join(f"{exam} ({found[exam].dataset})" for exam in sorted(found)[:_NAMED])
        more = ", …" if len(found) > _NAMED else ""
        raise UserError(
            f"{len(found)} exams have an id that begins with {beginning}",
            rule=f"one is shown: {some}{more}",
            remedy="give more of its digits",
        )
    return next(iter(found.values()))


def load(workspace: Workspace, known: Known) -> Exam:
    """The stored exam.

    Raises:
        UserError: it is not there, or damaged.
    """
    exam = known.row["exam_id"]
    try:
        return container.load(exam_path(workspace.exams(known.dataset), exam))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _check_erased(workspace, [known.dataset], exam)
        fault = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UserError(
            f"exam {exam} {fault}",
            where=f"data/exams/{known.dataset}",
            rule="the manifest names every exam that is stored",
            remedy=f"dvc checkout --force data/exams/{known.dataset}.dvc",
        ) from None


def _check_erased(workspace: Workspace, datasets: Sequence[str], beginning: str) -> None:
    """Raises UserError: of an exam whose id begins so there is a tombstone."""
    for dataset in datasets:
        for path in workspace.exams(dataset).glob(f"{beginning}*.zip"):
            if container.is_tombstone(path):
                raise UserError(
                    f"exam {path.stem} was erased: its patient has withdrawn",
                    where=f"data/exams/{dataset}",
                    rule="nothing of it is kept",
                )

"""Some columns of a manifest, and what it says that its dataset is made of.

Without pandas and its schema, which take a second: who asks 200 versions about one exam does not
wait for that.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from keyslice.errors import UserError
from keyslice.exams.split import group

IDENTITY = b"keyslice"
"""Key, in the file's own metadata, of what the dataset is made of."""


def read_splits(path: Path) -> dict[str, str]:
    """The split of each patient, or exam without a known one; see `split.group`.

    Raises:
        UserError: the manifest is damaged; so do the others.
    """
    with reading(path):
        table = pq.read_table(path, columns=["exam_id", "patient", "split"])
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return {group(exam, patient): split for exam, patient, split in rows}


def read_split(path: Path, split: str) -> set[str]:
    """Ids of the exams of one split."""
    with reading(path):
        table = pq.read_table(path, columns=["exam_id", "split"])
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return {exam for exam, own in pairs if own == split}


def read_patients(path: Path) -> list[str]:
    """The patient of each exam, `UNKNOWN` where a public set names none."""
    with reading(path), pq.ParquetFile(path) as file:  # read_table takes ten times as long to begin
        return file.read(["patient"])["patient"].to_pylist()


def read_identity(path: Path) -> dict[str, Any]:
    """The settings that said what the dataset is made of."""
    with reading(path):
        return json.loads((pq.read_schema(path).metadata or {})[IDENTITY])


def marks(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """Marks of the keys of its pseudonyms: one as text, as ever, or several as a list.

    A list is no key's mark: a Keyslice that knows of one key only refuses such a dataset.
    """
    told = identity.get("key") or ()
    return (told,) if isinstance(told, str) else tuple(told)


def with_marks(identity: Mapping[str, Any], told: Iterable[str]) -> dict[str, Any]:
    """With these, as `marks` reads them."""
    first, *others = told
    return {**identity, "key": [first, *others] if others else first}


@contextmanager
def reading(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Tell of a manifest that cannot be read; `others` are errors that mean so, too.

    Raises:
        UserError: it is damaged, or is none.
    """
    try:
        yield
    # pyarrow's own errors are ValueErrors or OSErrors.
    except (ValueError, OSError, KeyError, *others) as error:
        raise UserError(
            f"cannot be read as a manifest ({type(error).__name__})",
            where="/".join(path.parts[-4:]),
            rule="it is as an ingestion wrote it",
            remedy=f"dvc checkout --force data/exams/{path.parent.name}.dvc, or restore it from "
            "the backup",
        ) from None

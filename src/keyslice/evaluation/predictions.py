"""Predictions: one row per exam and seed, from which everything downstream is computed.

Columns:
    exam_id: the exam; with `seed` the key of a row.
    patient: pseudonym, or "unknown" where the source names none.
    split: "validation" or "test".
    label: index into the dataset's classes.
    seed: of the training run that predicts.
    probabilities: one per class, adding up to 1.
    frames: length of the exam as the sampler saw it.
    kept: numbers of the kept frames, in frame order; a sampler may repeat one.
    attention: weight of each kept frame in the classifier.
    macs: multiply-accumulates spent on this exam.
    plain_probabilities, plain_macs: of the network that looks once, where `evaluate.test_time` lets
        it look more often; null where it does not.
    informative: numbers of the frames known to carry the finding, which thinning may have dropped
        all; null where nobody knows, or there never were any.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet

from keyslice import files
from keyslice.exams.source import UNKNOWN

SPLITS = ("validation", "test")
KEY = ["exam_id", "seed"]

_FILE = pyarrow.schema(
    [
        ("exam_id", pyarrow.string()),
        ("patient", pyarrow.string()),
        ("split", pyarrow.string()),
        ("label", pyarrow.int32()),
        ("seed", pyarrow.int64()),
        # In double: in single precision those of a confident network tie at 1.
        ("probabilities", pyarrow.list_(pyarrow.float64())),
        ("frames", pyarrow.int32()),
        ("kept", pyarrow.list_(pyarrow.int32())),
        ("attention", pyarrow.list_(pyarrow.float32())),
        ("macs", pyarrow.float64()),
        ("plain_probabilities", pyarrow.list_(pyarrow.float64())),
        ("plain_macs", pyarrow.float64()),
        ("informative", pyarrow.list_(pyarrow.int32())),
    ]
)


_PLAIN = {"plain_probabilities": None, "plain_macs": np.nan}


def _sum_to_one(rows: pd.Series) -> bool:
    rows = rows.dropna()
    if rows.empty:
        return True
    matrix = np.stack(rows.to_list())  # raises ValueError where the lengths differ
    return bool(np.isfinite(matrix).all() and np.allclose(matrix.sum(1), 1, atol=1e-3))


def _kept_in_order(table: pd.DataFrame) -> pd.Series:
    """Kept frames exist, stand in frame order, and carry one attention weight each."""
    return pd.Series(
        [
            0 < len(kept) == len(attention)
            and kept[0] >= 0
            and kept[-1] < frames
            and bool((np.diff(kept) >= 0).all())
            for kept, attention, frames in zip(
                table["kept"], table["attention"], table["frames"], strict=True
            )
        ],
        index=table.index,
    )


SCHEMA = pa.DataFrameSchema(
    {
        "exam_id": pa.Column(str),
        "patient": pa.Column(str),
        "split": pa.Column(str, pa.Check.isin(SPLITS)),
        "label": pa.Column(int, pa.Check.ge(0)),
        "seed": pa.Column(int, pa.Check.ge(0)),
        "probabilities": pa.Column(object, pa.Check(_sum_to_one, error="add up to 1")),
        "frames": pa.Column(int, pa.Check.ge(1)),
        "kept": pa.Column(object),
        "attention": pa.Column(object),
        "macs": pa.Column(float, pa.Check.ge(0)),
        "plain_probabilities": pa.Column(
            object, pa.Check(_sum_to_one, error="add up to 1"), nullable=True
        ),
        "plain_macs": pa.Column(float, pa.Check.ge(0), nullable=True),
        "informative": pa.Column(object, nullable=True),
    },
    checks=pa.Check(_kept_in_order, error="kept frames exist, in frame order, each with a weight"),
    unique=KEY,
    strict=True,
    coerce=True,
)


def read(path: Path) -> pd.DataFrame:
    """The table at `path`; list columns come as arrays.

    Raises:
        FileNotFoundError: there is none.
        pandera.errors.SchemaError: the file breaks the schema.
    """
    return _checked(pyarrow.parquet.read_table(path).to_pandas())


def write(table: pd.DataFrame, path: Path) -> None:
    """Write `table`, sorted, beside `path` and then rename; equal rows give equal bytes.

    Raises:
        pandera.errors.SchemaError: the table breaks the schema.
    """
    rows = _checked(table.reset_index(drop=True)).sort_values(["split", *KEY])[_FILE.names]
    # pandas' own metadata would tie the bytes to its version.
    content = pyarrow.Table.from_pandas(rows, schema=_FILE, preserve_index=False)
    with files.beside(path) as part:
        pyarrow.parquet.write_table(content.replace_schema_metadata(None), part)


def plain(table: pd.DataFrame) -> pd.DataFrame | None:
    """The predictions of networks that look once; None where these do no more than that."""
    if "plain_macs" not in table or table["plain_macs"].isna().any():
        return None
    return table.assign(probabilities=table["plain_probabilities"], macs=table["plain_macs"])


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    # A file that was written before there was `evaluate.test_time` says nothing of it.
    return SCHEMA.validate(table.assign(**{n: v for n, v in _PLAIN.items() if n not in table}))


@dataclass(frozen=True)
class Predicted:
    """One variant's predictions on one split, as arrays over S seeds, N exams and C classes."""

    seeds: tuple[int, ...]
    """Ascending."""
    exams: np.ndarray
    """(N,) ids, ascending."""
    units: np.ndarray
    """(N,) what a bootstrap resamples: the patient, or the exam where the patient is unknown."""
    labels: np.ndarray
    """(N,) class indices."""
    probabilities: np.ndarray
    """(S,N,C), float64."""


def predicted(table: pd.DataFrame, split: str) -> Predicted:
    """The rows of one split as arrays.

    Raises:
        ValueError: the split has no rows, or the seeds predict different exams.
    """
    rows = table[table["split"] == split].sort_values(["seed", "exam_id"])
    seeds = tuple(int(seed) for seed in sorted(rows["seed"].unique()))
    if not seeds:
        raise ValueError(f"no predictions for the split {split!r}")
    first = rows[rows["seed"] == seeds[0]]
    exams = first["exam_id"].to_numpy(dtype=object)
    if not np.array_equal(rows["exam_id"].to_numpy(dtype=object), np.tile(exams, len(seeds))):
        raise ValueError(f"the seeds predict different exams in the split {split!r}")
    patients = first["patient"].to_numpy(dtype=object)
    probabilities = np.stack(rows["probabilities"].to_list()).astype(np.float64)
    return Predicted(
        seeds=seeds,
        exams=exams,
        units=np.where(patients == UNKNOWN, exams, patients),
        labels=first["label"].to_numpy(dtype=np.int64),
        probabilities=probabilities.reshape(len(seeds), len(exams), -1),
    )

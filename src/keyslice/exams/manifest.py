"""The manifest: one row per exam, checked by a schema, the same rows giving the same bytes."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq

from keyslice import files
from keyslice.exams.exam import DTYPES
from keyslice.exams.manifest_columns import IDENTITY, reading
from keyslice.exams.source import UNKNOWN
from keyslice.exams.split import SPLITS

TYPES = pyarrow.schema(
    [
        ("exam_id", pyarrow.string()),
        ("patient", pyarrow.string()),  # pseudonym; "unknown" where a public set has none
        ("label", pyarrow.string()),
        ("split", pyarrow.string()),
        ("batch", pyarrow.string()),  # ordinal of the ingestion that brought it: 0001, 0002, …
        ("frames", pyarrow.int64()),
        ("height", pyarrow.int64()),  # pixels, as acquired
        ("width", pyarrow.int64()),
        ("channels", pyarrow.int64()),
        ("dtype", pyarrow.string()),
        ("modality", pyarrow.string()),
        ("site", pyarrow.string()),
        ("acquired", pyarrow.string()),  # ISO date
        ("source_format", pyarrow.string()),
        ("sha256", pyarrow.string()),  # of the stored file
        ("label_source", pyarrow.string()),
        ("labeller", pyarrow.string()),  # pseudonym
        # Numbers of frames as stored, from 0; null: not known.
        ("informative", pyarrow.list_(pyarrow.int32())),
        ("frame_spacing", pyarrow.float64()),  # mm; null: not known
        ("row_spacing", pyarrow.float64()),
        ("column_spacing", pyarrow.float64()),
        ("frame_time", pyarrow.float64()),  # ms; null: not known
        ("facts", pyarrow.string()),  # JSON; see `exam.FACTS`
        ("difference_hash", pyarrow.string()),  # equal in most bits for nearly equal exams
        ("constant_frames", pyarrow.int64()),
        ("intensity_mean", pyarrow.float64()),  # of the samples as acquired
        ("intensity_sd", pyarrow.float64()),
        ("intensity_low", pyarrow.float64()),  # 1st and 99th percentile
        ("intensity_high", pyarrow.float64()),
    ]
)


def _text(*checks: pa.Check, **options: Any) -> pa.Column:
    return pa.Column(str, [pa.Check.str_length(min_value=1), *checks], **options)


def _whole(*checks: pa.Check) -> pa.Column:
    return pa.Column("int64", [pa.Check.ge(1), *checks])


def _above_zero() -> pa.Column:
    return pa.Column("float64", pa.Check.gt(0), nullable=True)


SCHEMA = pa.DataFrameSchema(
    {
        "exam_id": _text(pa.Check.str_matches(r"^[0-9a-f]{32}$"), unique=True),
        "patient": _text(pa.Check.str_matches(r"^([0-9a-f]{32}|unknown)$")),
        "label": _text(),
        "split": _text(pa.Check.isin(SPLITS)),
        "batch": _text(pa.Check.str_matches(r"^\d{4,}$")),
        "frames": _whole(),
        "height": _whole(),
        "width": _whole(),
        "channels": _whole(pa.Check.isin((1, 3))),
        "dtype": _text(pa.Check.isin(DTYPES)),
        "modality": _text(),
        "site": _text(),
        "acquired": _text(),
        "source_format": _text(),
        "sha256": _text(pa.Check.str_matches(r"^[0-9a-f]{64}$")),
        "label_source": _text(),
        "labeller": _text(pa.Check.str_matches(r"^([0-9a-f]{32}|unknown)$")),
        "informative": pa.Column(object, nullable=True),
        "frame_spacing": _above_zero(),
        "row_spacing": _above_zero(),
        "column_spacing": _above_zero(),
        "frame_time": _above_zero(),
        "facts": _text(),
        "difference_hash": _text(pa.Check.str_matches(r"^[0-9a-f]{48}$")),
        "constant_frames": pa.Column("int64", pa.Check.ge(0)),
        "intensity_mean": pa.Column("float64"),
        "intensity_sd": pa.Column("float64", pa.Check.ge(0)),
        "intensity_low": pa.Column("float64"),
        "intensity_high": pa.Column("float64"),
    },
    checks=pa.Check(lambda table: _patients_in_two_splits(table) == 0, name="one split a patient"),
    strict=True,
    ordered=True,
)


def _patients_in_two_splits(table: pd.DataFrame) -> int:
    known = table[table["patient"] != UNKNOWN]
    pairs = known[["patient", "split"]].drop_duplicates()
    return int(pairs["patient"].duplicated().sum())


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A checked manifest of these rows, sorted by batch and exam.

    Raises:
        pandera.errors.SchemaError: a row breaks the schema.
    """
    rows = sorted(rows, key=lambda row: (int(row["batch"]), row["exam_id"]))
    return SCHEMA.validate(to_pandas(pyarrow.Table.from_pylist(rows, schema=TYPES)))


def rows(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The rows by exam id, what is not known being None."""
    arrow = pyarrow.Table.from_pandas(table, TYPES, preserve_index=False)
    names, columns = arrow.column_names, map(_values, arrow.columns)
    return {row[0]: dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)}


def _values(column: pyarrow.ChunkedArray) -> list[Any]:
    """Of a column; equal texts are one object, as 100,000 exams have few labels."""
    if not pyarrow.types.is_string(column.type):
        return column.to_pylist()
    coded = column.combine_chunks().dictionary_encode()
    texts = coded.dictionary.to_pylist()
    return [texts[number] for number in coded.indices.to_numpy()]


def write(table: pd.DataFrame, path: Path, identity: dict[str, Any]) -> None:
    """Write the manifest in one step; a file that would not change is left alone.

    Args:
        table: as `frame` makes it.
        path: of the parquet file.
        identity: the settings that say what the dataset is made of; kept in the file.
    """
    arrow = pyarrow.Table.from_pandas(table, TYPES, preserve_index=False)
    arrow = arrow.replace_schema_metadata({IDENTITY: json.dumps(identity, sort_keys=True)})
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd")
    content = buffer.getvalue()
    if path.is_file() and path.read_bytes() == content:
        return
    with files.beside(path) as part:
        part.write_bytes(content)


def read(path: Path) -> pd.DataFrame:
    """The manifest as a table; `informative` holds lists of frame numbers or None.

    Raises:
        UserError: damaged, or edited into something else.
    """
    with reading(path, pandera.errors.SchemaError):
        return SCHEMA.validate(to_pandas(pq.read_table(path)))


def version_hash(path: Path) -> str:
    """SHA-256 of the manifest's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_pandas(table: pyarrow.Table) -> pd.DataFrame:
    """The table with `informative` as lists of numbers or None; pandas would make them arrays."""
    informative = pd.Series(table["informative"].to_pylist(), dtype=object)
    others = table.drop_columns("informative").to_pandas()
    return others.assign(informative=informative)[table.column_names]

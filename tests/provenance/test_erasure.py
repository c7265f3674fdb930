"""A file without what is theirs: the rest of it stays as it was."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from keyslice.exams.barred import Barred
from keyslice.exams.container import TOMBSTONE
from keyslice.provenance import erasure
from keyslice.provenance.erasure import Item, Kind

WHO, OTHER = "1" * 32, "2" * 32
EXAMS = [digit * 32 for digit in "abcd"]
BAN = Barred(frozenset([WHO]), frozenset([EXAMS[2]]))
"""Theirs are the second, by its patient, and the third, by itself."""


def table(path: Path, **columns: Sequence[object]) -> Path:
    rows = {"exam_id": EXAMS, "patient": [OTHER, WHO, OTHER, OTHER]} | columns
    whole = pyarrow.table(rows).replace_schema_metadata({b"keyslice": b"{}"})
    pq.write_table(whole, path)
    return path


def without(path: Path, kind: Kind, *stretches: tuple[int, int | None]) -> bytes:
    return b"".join(erasure.without(path, Item("0" * 32, kind, stretches), BAN))


def test_a_table_loses_their_rows_and_keeps_what_it_says_of_itself(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", label=list("wxyz"))
    assert erasure.exams_in(path, BAN) == {EXAMS[1], EXAMS[2]}
    path.write_bytes(without(path, "manifest"))
    left = pq.read_table(path)
    assert left["label"].to_pylist() == ["w", "z"]
    assert left.schema.metadata == {b"keyslice": b"{}"}
    assert WHO.encode() not in path.read_bytes()
    assert erasure.exams_in(path, BAN) == set()


@pytest.mark.parametrize("kind", ["manifest", "record", "shard", "exam"])
def test_what_has_been_erased_is_not_changed_by_doing_it_again(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "file"
    if kind == "manifest":
        table(path)
    elif kind == "record":
        path.write_text(json.dumps(dict.fromkeys(EXAMS, 0), indent=0) + "\n")
    else:
        np.save(path.open("wb"), np.arange(100, dtype=np.uint8))
    stretches = ((10, 20), (90, None)) if kind == "shard" else ()
    once = without(path, kind, *stretches)
    assert once != path.read_bytes()
    path.write_bytes(once)
    assert without(path, kind, *stretches) == once


def test_a_table_without_them_stays_as_it_is_byte_for_byte(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", patient=[OTHER] * 4, exam_id=[EXAMS[0]] * 4)
    assert without(path, "manifest") == path.read_bytes()


def test_of_a_shard_their_pixels_are_black_and_all_others_are_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_BLOCK", 17)
    samples = np.random.default_rng(0).integers(1, 255, 200, np.uint8)
    np.save(tmp_path / "s.npy", samples)
    index = table(
        tmp_path / "index.parquet", shard=["s.npy"] * 3 + ["r.npy"], offset=[120, 0, 150, 0]
    )
    found = erasure.shards_of(index, BAN)
    assert found == {"s.npy": ((0, 120), (150, None))}
    (tmp_path / "s.npy").write_bytes(without(tmp_path / "s.npy", "shard", *found["s.npy"]))
    left = np.load(tmp_path / "s.npy")
    assert (left[120:150] == samples[120:150]).all()
    assert not left[:120].any()
    assert not left[150:].any()


@pytest.mark.parametrize("kind", ["manifest", "shard", "record"])
def test_of_what_is_damaged_nothing_stays(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"PAR1 of somebody")
    assert without(path, kind, (0, None)) == TOMBSTONE


def test_kinds_of_tables_are_told_by_their_columns(tmp_path: Path) -> None:
    kinds = {"label_source": "manifest", "macs": "predictions", "shard": "index", "x": "table"}
    for column, kind in kinds.items():
        path = table(tmp_path / "t.parquet", **{column: [0] * 4})
        assert erasure.kind_of_table(path) == kind


def test_a_table_of_something_else_holds_nobody(tmp_path: Path) -> None:
    pq.write_table(pyarrow.table({"epoch": [1]}), tmp_path / "t.parquet")
    assert erasure.exams_in(tmp_path / "t.parquet", BAN) == set()
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    assert erasure.exams_in(tmp_path / "t.parquet", BAN) == set()

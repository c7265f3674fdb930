"""What of a patient lies in a file, and the same file without it.

Whole files that show one exam, or pictures of it, become tombstones. Of files that tell of many
exams the others' part stays: rows of a table, pixels of a shard.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from numpy.lib import format as npy

from keyslice.exams.barred import Barred
from keyslice.exams.container import TOMBSTONE

Kind = Literal["exam", "manifest", "predictions", "index", "table", "shard", "record", "report"]
Stretch = tuple[int, int | None]
"""Of a shard's array: the first byte, and the one after the last; None: to its end."""
_BLOCK = 2**20
_TABLE = b"PAR1"
_MARKS: dict[str, Kind] = {"label_source": "manifest", "macs": "predictions", "shard": "index"}
"""A column that no other kind of table has."""


@dataclass(frozen=True, order=True)
class Item:
    """Something of theirs, whatever place it lies in.

    Args:
        md5: by which DVC knows it.
        kind: of what it is.
        stretches: of a shard, where their pixels lie.
    """

    md5: str
    kind: Kind
    stretches: tuple[Stretch, ...] = ()


def is_table(path: Path) -> bool:
    """Whether a file begins as a table does."""
    with path.open("rb") as file:
        return file.read(len(_TABLE)) == _TABLE


def told(path: Path) -> pyarrow.Table | None:
    """`exam_id` and `patient` ("" where there is no such column) of each row of a table of exams.

    None: it is no such table, or damaged.
    """
    try:
        names = pq.read_schema(path).names
        if "exam_id" not in names:
            return None
        table = pq.read_table(path, columns=[n for n in ("exam_id", "patient") if n in names])
    except (OSError, ValueError):
        return None
    if "patient" not in names:
        table = table.append_column("patient", pyarrow.array([""] * len(table), pyarrow.string()))
    return table


def theirs(table: pyarrow.Table, ban: Barred) -> list[bool]:
    """Of each row of what `told` gives, whether it is one of theirs."""
    pairs = zip(table["exam_id"].to_pylist(), table["patient"].to_pylist(), strict=True)
    return [exam in ban.exams or patient in ban.patients for exam, patient in pairs]


def exams_in(path: Path, ban: Barred) -> set[str]:
    """The ids of their exams among the rows of a table; none where it is no table of exams."""
    table = told(path)
    if table is None:
        return set()
    rows = zip(table["exam_id"].to_pylist(), theirs(table, ban), strict=True)
    return {exam for exam, own in rows if own}


def all_exams(path: Path) -> set[str]:
    """The ids of all exams that a table tells of."""
    table = told(path)
    return set() if table is None else set(table["exam_id"].to_pylist())


def kind_of_table(path: Path) -> Kind:
    """By its columns."""
    names = pq.read_schema(path).names
    kinds: list[Kind] = [kind for column, kind in _MARKS.items() if column in names]
    return kinds[0] if kinds else "table"


def shards_of(index: Path, ban: Barred) -> dict[str, tuple[Stretch, ...]]:
    """Where their pixels lie in each shard of a frame store, by the shard's name."""
    table = pq.read_table(index, columns=["exam_id", "patient", "shard", "offset"])
    mine = theirs(table, ban)
    rows = sorted(zip(*(table[c].to_pylist() for c in ("shard", "offset")), mine, strict=True))
    found: dict[str, list[Stretch]] = {}
    for place, (shard, offset, own) in enumerate(rows):
        if own:
            following = rows[place + 1] if place + 1 < len(rows) else ("", 0, False)
            end = following[1] if following[0] == shard else None
            found.setdefault(shard, []).append((offset, end))
    return {shard: tuple(stretches) for shard, stretches in found.items()}


def without(path: Path, item: Item, ban: Barred) -> Iterator[bytes]:
    """The bytes that take the place of a file's; where nothing is theirs, its own.

    Of a damaged file nothing stays.
    """
    if item.kind in ("exam", "report"):
        yield TOMBSTONE
        return
    try:
        content = _without(path, item, ban)
    except (OSError, ValueError, KeyError):
        content = iter([TOMBSTONE])
    yield from content


def _without(path: Path, item: Item, ban: Barred) -> Iterator[bytes]:
    """Raises OSError, ValueError, KeyError: it is none of its kind."""
    if item.kind == "shard":
        start = _array_start(path)
        return _blackened(path, [_moved(one, start) for one in item.stretches])
    whole = _without_keys(path, ban.exams) if item.kind == "record" else _without_rows(path, ban)
    return iter([whole])


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, some at a time."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def digest(content: Iterable[bytes]) -> str:
    """SHA-256 of bytes that come in pieces."""
    found = hashlib.sha256()
    for piece in content:
        found.update(piece)
    return found.hexdigest()


def _without_rows(path: Path, ban: Barred) -> bytes:
    who = told(path)
    if who is None:
        raise ValueError("no table of exams")
    mine = theirs(who, ban)
    if not any(mine):
        return path.read_bytes()
    # The schema's own metadata stays: it says what a dataset is made of.
    left = pq.read_table(path).filter(pyarrow.array([not own for own in mine]))
    sink = pyarrow.BufferOutputStream()
    pq.write_table(left, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _without_keys(path: Path, exams: Iterable[str]) -> bytes:
    content: dict[str, Any] = json.loads(path.read_bytes())
    drop = content.keys() & set(exams)
    if not drop:
        return path.read_bytes()
    left = {key: value for key, value in content.items() if key not in drop}
    return (json.dumps(left, indent=0) + "\n").encode()


def _array_start(path: Path) -> int:
    """Where the samples of an array's file begin."""
    with path.open("rb") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if len(shape) != 1 or dtype != np.uint8:
            raise ValueError("no shard")
        return file.tell()


def _moved(stretch: Stretch, by: int) -> Stretch:
    first, end = stretch
    return first + by, None if end is None else end + by


def _blackened(path: Path, stretches: Sequence[Stretch]) -> Iterator[bytes]:
    """The file with zeros in these places."""
    place = 0
    for piece in pieces(path):
        block = bytearray(piece)
        for first, end in stretches:
            start = max(first - place, 0)
            stop = len(block) if end is None else min(end - place, len(block))
            if start < stop:
                block[start:stop] = bytes(stop - start)
        yield bytes(block)
        place += len(block)

"""A DICOM file's header, as far as it is needed, and its frames as they lie in it."""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from keyslice.exams.source import UnreadableError

PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
PREAMBLE = 128
LENGTH_OPEN = 0xFFFFFFFF
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
"""Of JPEG, JPEG-LS and JPEG 2000 streams."""
HEADER_MOST = 2**26
"""Bytes that a deflated header may have."""
FIRST_ELEMENTS = {(2, 0), (2, 1), (2, 2), (8, 0), (8, 1), (8, 5), (8, 6), (8, 8)} | {
    (8, element) for element in range(0x12, 0x19)
}
ENDED = "it ends before its samples do"
Vector = tuple[float, ...]


def is_dicom(start: bytes) -> bool:
    """Whether a file starts as DICOM files do, by its first 132 bytes or more.

    Either with a preamble and `DICM` or, as some old ones, with the first element at once.
    """
    if start[PREAMBLE : PREAMBLE + 4] == b"DICM":
        return True
    if len(start) < 12:
        return False
    group, element, length = struct.unpack("<HHI", start[:8])
    if (group, element) not in FIRST_ELEMENTS:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or (length <= PREAMBLE and length % 2 == 0)


def header(
    stream: BinaryIO, tags: Sequence[str], most: int = HEADER_MOST
) -> tuple[Dataset, BinaryIO]:
    """The elements named and the stream, which stands at the samples, if there are any.

    Args:
        stream: of a DICOM file.
        tags: keywords.
        most: bytes that deflated content may have; what is beyond is not seen.

    Raises:
        UnreadableError: it is no such file.
    """
    stream = _inflated(stream, most)
    wanted: list[Any] = [*map(_tag, tags)]
    try:
        dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=wanted)
    except Exception as error:
        # Without the library's message, which quotes the header.
        raise UnreadableError(f"its header is damaged ({type(error).__name__})") from None
    return dataset, stream


def _inflated(stream: BinaryIO, most: int) -> BinaryIO:
    """A file whose elements are deflated as one where they are not; others as they are."""
    start = stream.read(PREAMBLE + 4 + 1024)
    stream.seek(0)
    uid = DeflatedExplicitVRLittleEndian.encode()
    if start[PREAMBLE : PREAMBLE + 4] != b"DICM" or uid not in start:
        return stream
    meta_length = int.from_bytes(start[PREAMBLE + 12 : PREAMBLE + 16], "little")
    meta = stream.read(PREAMBLE + 16 + meta_length)
    plain = ExplicitVRLittleEndian.encode().ljust(len(uid), b"\0")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(stream.read(), most)
    except zlib.error:
        raise UnreadableError("its deflated content is damaged") from None
    return io.BytesIO(meta.replace(uid, plain) + content)


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _value(dataset: Dataset, keyword: str) -> Any:
    """Of an element, None where there is none; by its tag, in half the time."""
    element = dataset.get(_tag(keyword))
    return None if element is None else element.value


def number(dataset: Dataset, keyword: str) -> float | None:
    """A number of the header; None where there is none, or none that is finite."""
    values = vector(dataset, keyword)
    return values[0] if values else None


def vector(dataset: Dataset, keyword: str, length: int | None = None) -> Vector | None:
    """Numbers of the header; None where they are not all finite, or not that many."""
    try:
        value = _value(dataset, keyword)
        if value is None or isinstance(value, str | bytes):
            return None
        values = tuple(map(float, value)) if hasattr(value, "__iter__") else (float(value),)
    except Exception:  # whatever a value of a wrong type makes the library do
        return None
    fits = length in (None, len(values)) and values and all(map(math.isfinite, values))
    return values if fits else None


def text(dataset: Dataset, keyword: str) -> str:
    """Text of the header, several values as in the file; empty where there is none."""
    try:
        value = _value(dataset, keyword)
        several = hasattr(value, "__iter__") and not isinstance(value, str)
        return "\\".join(map(str, value)) if several else str(value or "").strip()
    except Exception:  # as above
        return ""


def count(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """A whole number above zero, or zero for flags.

    Raises:
        UnreadableError: there is none, and no default; or it is no such number.
    """
    tag = _tag(keyword)
    if default is not None and (tag not in dataset or not dataset.get_item(tag).value):
        return default
    value = number(dataset, keyword)
    if value is None or value != int(value) or value < 0:
        raise UnreadableError(f"its header has no valid {keyword}")
    return int(value)


def item(dataset: Dataset, keyword: str, index: int = 0) -> Dataset:
    """That item of a sequence; an empty one where there is none."""
    try:
        return _value(dataset, keyword)[index]
    except Exception:  # as above
        return Dataset()


@dataclass(frozen=True)
class Samples:
    """Where an object's samples are, and how they lie there.

    Args:
        keyword: of the element.
        vr: its type, where the file tells it.
        length: bytes; None where they are in fragments.
    """

    keyword: str
    vr: str
    length: int | None


def samples(stream: BinaryIO) -> Samples | None:
    """Of the stream that `header` gave, which stands at their first byte then; None if it has none.

    Bytes are left to be read with `whole` or `frames`.
    """
    head = stream.read(8)
    for order in ("<HH", ">HH"):
        if len(head) < 8:
            return None
        group, element = struct.unpack(order, head[:4])
        keyword = PIXELS.get(group << 16 | element)
        if keyword is None:
            continue
        vr = head[4:6] if head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN", b"OL") else b""
        (length,) = struct.unpack(order[0] + "I", stream.read(4) if vr else head[4:8])
        return Samples(keyword, vr.decode(), None if length == LENGTH_OPEN else length)
    return None


def syntax(dataset: Dataset) -> UID:
    """How the file is written, as its header tells or, without that, as it was read."""
    told = text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    if told:
        return UID(told)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def frames(data: bytes, number_of_frames: int, coded: bool) -> list[bytes]:
    """Compressed frames out of their fragments.

    Args:
        data: from the first item on; the mark at their end may be missing.
        number_of_frames: that there must be.
        coded: as a JPEG stream of some kind, the start of which can be told.

    Raises:
        UnreadableError: there are more, or fewer, or the data end within one.
    """
    offsets, fragments, places = _fragments(data, coded)
    if len(fragments) == number_of_frames:  # always so where there is an extended offset table
        return [*map(bytes, fragments)]
    if number_of_frames == 1 and not coded:
        return [b"".join(fragments)]
    if len(offsets) == number_of_frames and set(offsets) <= set(places):
        starts = [places.index(place) for place in offsets]
    else:
        starts = [n for n, part in enumerate(fragments) if bytes(part[:8]).startswith(STARTS)]
        starts = starts or [0]
    if len(starts) != number_of_frames or starts != sorted(set(starts)) or starts[0] != 0:
        raise UnreadableError(
            f"it has {len(starts)} compressed frames; its header says {number_of_frames}"
        )
    ends = [*starts[1:], len(fragments)]
    return [b"".join(fragments[one:end]) for one, end in zip(starts, ends, strict=True)]


def _fragments(data: bytes, coded: bool) -> tuple[list[int], list[memoryview], list[int]]:
    """The offset table, and the fragments after it with their places as that table counts."""
    view, place = memoryview(data), 0
    found: list[memoryview] = []
    places: list[int] = []
    while data[place : place + 4] == ITEM and len(data) >= place + 8:
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        if place + 8 + length > len(data):
            raise UnreadableError(ENDED)
        found.append(view[place + 8 : place + 8 + length])
        places.append(place)
        place += 8 + length
    if data[place : place + 4] not in (DELIMITER, b""):
        raise UnreadableError("its compressed samples are damaged")
    if len(found) < 2:
        raise UnreadableError("it has no compressed samples")
    if place >= len(data) and coded and b"\xff\xd9" not in bytes(found[-1][-16:]):
        raise UnreadableError(ENDED)  # neither the series of fragments nor the last of them ends
    table = bytes(found[0])
    offsets = [*struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])]
    return offsets, found[1:], [one - places[1] for one in places[1:]]

"""PNG files without anything but the picture."""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INDEXED = 3
"""The colour type of a picture with a palette."""
KEY_LENGTHS = {0: 2, 2: 6}
"""Bytes of tRNS, which tells what is transparent, by colour type; with a palette up to 256."""
LAST_BYTES = 7
"""At the end of deflated samples, that the last one needs: what follows it are at most 15 bits that
end its block, 7 of padding and 4 bytes of checksum."""
EMPTY_BLOCK = b"\0\0\xff\xff"
"""Before the checksum, ends an empty last block, of 5 bytes, which some encoders write."""
AFTER_SAMPLES = 16
"""Bytes that follow the last coded samples in a stripped file: their checksum, and IEND."""


def strip(data: bytes) -> bytes:
    """The file with its picture's own chunks only: IHDR, PLTE of indexed colour, tRNS, IDAT, IEND.

    Text, EXIF, times, colour profiles, private chunks and what follows the end are left out; so
    are all but the first picture of an animation. The last few bytes of the coded samples are a
    chunk of their own: a decoder that never asks for it had all samples before, and what follows
    them is none of the picture's.

    Raises:
        ValueError: it is no such file, cut short, or a chunk is damaged.
    """
    view = memoryview(data)
    kept = [SIGNATURE]
    coded: list[memoryview] = []
    colour_type = -1
    for kind, start, end in chunks(data):
        length = end - start
        if kind == b"IHDR" and length == 13:
            colour_type = data[start + 9]
        elif kind == b"tRNS":
            indexed = colour_type == INDEXED
            if not (length <= 256 if indexed else length == KEY_LENGTHS.get(colour_type)):
                continue
        elif kind == b"PLTE":
            if colour_type != INDEXED or length > 3 * 256:
                continue
        elif kind not in (b"IDAT", b"IEND"):
            continue
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError("a chunk of the PNG file does not match its checksum")
        if kind == b"IDAT":
            coded.append(view[start:end])
        elif kind != b"IEND":
            kept.append(data[start - 8 : end + 4])
    if colour_type < 0:
        raise ValueError("the PNG file has no header")
    samples = b"".join(coded)
    last = len(samples) - LAST_BYTES - 5 * (samples[-8:-4] == EMPTY_BLOCK)
    kept += [_chunk(b"IDAT", part) for part in (samples[: max(last, 0)], samples[max(last, 0) :])]
    return b"".join([*kept, _chunk(b"IEND", b"")])


def chunk(data: bytes, kind: bytes) -> bytes | None:
    """The content of the first chunk of this kind, None where there is none; raises as `strip`."""
    return next((data[start:end] for name, start, end in chunks(data) if name == kind), None)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk's content, up to IEND; raises ValueError as `strip`."""
    if not data.startswith(SIGNATURE):
        raise ValueError("it does not start as a PNG file does")
    kind, place = b"", len(SIGNATURE)
    while kind != b"IEND":
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        start, end = place + 8, place + 8 + length
        place = end + 4
        if place > len(data):
            raise ValueError("the PNG file is cut short")
        yield kind, start, end


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([len(content).to_bytes(4, "big"), kind, content, checksum.to_bytes(4, "big")])

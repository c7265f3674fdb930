"""JPEG and JPEG-LS streams without anything but the picture."""

import re
import struct

START, END, SCAN = 0xD8, 0xD9, 0xDA
HUFFMAN, QUANTISATION, RESTART, PRESETS = 0xC4, 0xDB, 0xDD, 0xF8
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start a frame, of JPEG-LS the last."""
LOSSLESS_FRAME = 0xF7
NEEDED = FRAMES | {SCAN, HUFFMAN, QUANTISATION, RESTART, PRESETS, 0xCC, 0xDC}
"""Segments that decoding needs; in addition the arithmetic coding's, and the number of lines."""
DROPPED = {*range(0xE0, 0xF0), *range(0xF0, 0xFE), 0xFE} - NEEDED
"""Applications' segments, reserved ones and comments."""
NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
NEXT_MARKER_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
"""In JPEG-LS a byte below 0x80 after 0xFF belongs to the coded samples."""


def strip(data: bytes) -> bytes:
    """The stream with its coded samples and what decoding them needs, byte for byte, only.

    Applications' segments (EXIF, XMP, thumbnails …), comments, bytes between segments and those
    after the end of the (first) picture are left out. What tells how colours were transformed
    stays, written anew: JFIF's and Adobe's mark in JPEG, Hewlett-Packard's in JPEG-LS. A stream
    that ends early gets no end mark.

    Raises:
        ValueError: it is no such stream, or damaged where its segments can be told.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("it does not start as a JPEG stream does")
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    place, next_marker = 2, NEXT_MARKER
    while (place := data.find(b"\xff", place)) >= 0:
        while place < len(data) and data[place] == 0xFF:
            place += 1
        if place == len(data):
            break
        marker, place = data[place], place + 1
        if marker == END:
            kept.append(b"\xff\xd9")
            break
        if 0xD0 <= marker <= 0xD7:
            continue
        if marker not in NEEDED and marker not in DROPPED:
            raise ValueError(f"a JPEG stream has no segment 0x{marker:02X} there")
        length = int.from_bytes(data[place : place + 2], "big")
        body = data[place + 2 : place + length]
        if length < 2 or len(body) != length - 2:
            raise ValueError("a segment of the JPEG stream is cut short")
        if marker == LOSSLESS_FRAME:
            next_marker = NEXT_MARKER_LS
        place += length
        if marker in DROPPED:
            kept.append(_colour_mark(marker, body))
            continue
        if marker == PRESETS and body[:1] not in (b"\x01", b"\x04"):
            continue  # a palette, which DICOM and Pillow do not know
        if len(body) != _length(marker, body):
            raise ValueError(f"segment 0x{marker:02X} of the JPEG stream has a wrong length")
        kept += [b"\xff", bytes([marker]), length.to_bytes(2, "big"), body]
        if marker == SCAN:
            found = next_marker.search(data, place)
            end = len(data) if found is None else found.start()
            kept.append(memoryview(data)[place:end])
            place = end
    return b"".join(kept)


def _colour_mark(marker: int, body: bytes) -> bytes:
    """What a decoder takes from an application's segment, and nothing else; mostly empty."""
    if marker == 0xE0 and body[:5] == b"JFIF\0":
        return b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
        return b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + body[11:12]
    if marker == 0xE8 and body[:4] == b"mrfx" and len(body) == 5:
        return b"\xff\xe8\x00\x07" + body
    return b""


def _length(marker: int, body: bytes) -> int:
    """How long a segment's content must be, so that nothing else rides along in it."""
    if not body:
        return -1
    if marker in FRAMES:
        return 6 + 3 * body[5] if len(body) > 5 else -1
    if marker == SCAN:
        return 4 + 2 * body[0]
    if marker == RESTART:
        return min(max(len(body), 2), 4)  # JPEG-LS may write it in up to four bytes
    if marker == 0xDC:
        return 2
    if marker == PRESETS:
        return 11 if body[0] == 1 else min(len(body), 10)
    place = 0
    while place < len(body):
        if marker == QUANTISATION:
            place += 129 if body[place] >> 4 else 65
        elif marker == HUFFMAN:
            place += 17 + sum(body[place + 1 : place + 17])
        else:
            place += 2
    return place


def form(stream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, channels and bits a sample that a stripped stream tells.

    Raises:
        ValueError: it tells none.
    """
    place = 2
    while len(stream) >= place + 10:
        if stream[place + 1] in FRAMES:
            bits, rows, columns, channels = struct.unpack(">BHHB", stream[place + 4 : place + 10])
            return rows, columns, channels, bits
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    raise ValueError("the JPEG stream does not tell its size")

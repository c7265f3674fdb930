"""JPEG 2000 streams, high-throughput ones included, without anything but the picture."""

import struct

SIZE, CAPABILITIES = 0xFF51, 0xFF50
TILE, DATA, END = 0xFF90, 0xFF93, 0xFFD9
NEEDED = {SIZE, CAPABILITIES, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61}
"""Coding style, quantisation, regions of interest, progression, packed headers."""
DROPPED = {0xFF55, 0xFF56, 0xFF57, 0xFF58, 0xFF59, 0xFF63, 0xFF64}
"""Lengths of tiles and packets (which nobody needs), profile, registration, comments."""
BOXED = b"\0\0\0\x0cjP  \r\n\x87\n"


def strip(data: bytes) -> bytes:
    """The codestream with its coded samples and what decoding them needs only.

    Comments are left out, also those of tiles, and what follows the end; a JP2 file's boxes are
    left out as well. A stream that ends early gets no end mark.

    Raises:
        ValueError: it is no such stream, or damaged where its segments can be told.
    """
    if data.startswith(BOXED):
        data = _codestream(data)
    if data[:4] != b"\xff\x4f\xff\x51":
        raise ValueError("it does not start as a JPEG 2000 stream does")
    kept: list[bytes | memoryview] = [b"\xff\x4f"]
    place = 2
    while place < len(data):
        marker = int.from_bytes(data[place : place + 2], "big")
        if marker == END:
            kept.append(b"\xff\xd9")
            break
        if marker != TILE:
            segment, place = _segment(data, place)
            kept.append(segment)
            continue
        start, length = place, int.from_bytes(data[place + 6 : place + 10], "big")
        if data[place + 2 : place + 4] != b"\0\x0a" or len(data) < place + 12:
            raise ValueError("a tile of the JPEG 2000 stream is damaged")
        head, place = data[place : place + 12], place + 12
        segments = []
        while data[place : place + 2] != b"\xff\x93":
            segment, place = _segment(data, place)
            segments.append(segment)
        # The last tile may leave its length open: it ends where the stream does.
        end = start + length if length else data.rfind(b"\xff\xd9", place)
        end = len(data) if end < 0 else end
        if end < place + 2:
            raise ValueError("a tile of the JPEG 2000 stream is damaged")
        if length:
            length = 12 + sum(map(len, segments)) + end - place
        kept += [head[:6], length.to_bytes(4, "big"), head[10:], *segments]
        kept.append(memoryview(data)[place:end])
        place = end
    return b"".join(kept)


def _segment(data: bytes, place: int) -> tuple[bytes, int]:
    """The segment there, empty if it is to be dropped, and the place after it."""
    marker = int.from_bytes(data[place : place + 2], "big")
    if marker not in NEEDED and marker not in DROPPED:
        raise ValueError(f"a JPEG 2000 stream has no segment 0x{marker:04X} there")
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    if end < place + 4 or end > len(data):
        raise ValueError("a segment of the JPEG 2000 stream is cut short")
    segment = data[place:end]
    if marker == SIZE and len(segment) != 40 + 3 * int.from_bytes(segment[38:40], "big"):
        raise ValueError("the JPEG 2000 stream's size has a wrong length")
    return (b"" if marker in DROPPED else segment), end


def _codestream(data: bytes) -> bytes:
    """That in a JP2 file's boxes."""
    place = 0
    while place + 8 <= len(data):
        length, head = int.from_bytes(data[place : place + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        end = place + length if length else len(data)
        if end < place + head:
            break
        if data[place + 4 : place + 8] == b"jp2c":
            return data[place + head : end]
        place = end
    raise ValueError("the JP2 file has no codestream")


def form(stream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, channels and bits a sample that a stripped stream tells.

    Raises:
        ValueError: it tells none, or channels that differ.
    """
    if len(stream) < 43:
        raise ValueError("the JPEG 2000 stream does not tell its size")
    width, height, left, top = struct.unpack(">4I", stream[8:24])
    (channels,) = struct.unpack(">H", stream[40:42])
    each = [stream[42 + 3 * n : 45 + 3 * n] for n in range(channels)]
    if any(one != each[0] for one in each):
        raise ValueError("the channels of the JPEG 2000 stream differ")
    return height - top, width - left, channels, (each[0][0] & 0x7F) + 1

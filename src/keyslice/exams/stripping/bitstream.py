"""Coded pictures without what else a stream may carry: comments, captions, encoders' settings.

Each codec has its own way to carry words beside the pictures. What is not known to be part of the
pictures goes; whatever a decoder reads out of words (which encoder's faults to make up for) is
written anew from fixed words and numbers.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from keyslice.exams.stripping import jpeg

Strip = Callable[[bytes], bytes]

START_CODE = b"\x00\x00\x01"
USER_DATA = 0xB2
EXTENSION = 0xB5
COPYRIGHT = 4
MPEG12_KEPT = {*range(0xB0), 0xB3, EXTENSION, 0xB7, 0xB8}
"""Pictures, slices, headers of sequences and groups, extensions, ends of sequences."""
MPEG4_KEPT = {*range(0x30), 0xB0, 0xB1, 0xB3, 0xB5, 0xB6}
"""Video objects and their layers, sequences, groups, planes (pictures)."""
ENCODERS = re.compile(rb"DivX\d{1,4}(?:Build|b)\d{1,5}p?|XviD\d{1,4}|Lavc\d{1,2}\.\d{1,3}\.\d{1,3}")
OLD_FFMPEG = re.compile(rb"FFmpe[^b]*(?:b|libavcodec build: )(\d{1,5})")
TMPGENC = b"\x00TMPGEXS\x00"
"""User data by which FFmpeg knows encoders whose faults it makes up for."""

H264_KEPT = {1, 2, 3, 4, 5, 7, 8, 10, 11, 13, 19}
"""Slices, sets of parameters, ends of sequences."""
HEVC_KEPT = {*range(10), *range(16, 22), 32, 33, 34, 36, 37}
H264_SEI, HEVC_SEI = {6}, {39, 40}
RECOVERY_POINT, UNREGISTERED = 6, 5
LONGEST_RECOVERY_POINT = 8
X264_SIGN = re.compile(
    re.escape(bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")) + rb"x264 - core \d{1,4}"
)

AV1_KEPT = {1, 2, 3, 4, 6, 7}
"""Headers of sequences and frames, tiles, and what parts them in time."""


def stripper(codec: str, extradata: bytes) -> tuple[bytes, Strip] | None:
    """The stripped extradata of a stream, and how its packets are stripped.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: headers that the container keeps apart from the packets; may be empty.

    Returns:
        None of a codec about which nobody here can be certain.

    Raises:
        ValueError, IndexError: the extradata, or later a packet, are not as the codec has them.
    """
    match codec:
        case "mpeg1video" | "mpeg2video":
            segments = partial(_segments, kept=MPEG12_KEPT)
            return segments(extradata), segments
        case "mpeg4":
            segments = partial(_segments, kept=MPEG4_KEPT)
            return segments(extradata), segments
        case "h264":
            if extradata[:1] == b"\x01":
                length = (extradata[4] & 3) + 1
                return _avcc(extradata), lambda packet: _prefixed(packet, length, _h264)
            return _annex_b(extradata, _h264), lambda packet: _annex_b(packet, _h264)
        case "hevc":
            if extradata[:1] == b"\x01":
                length = (extradata[21] & 3) + 1
                return _hvcc(extradata), lambda packet: _prefixed(packet, length, _hevc)
            return _annex_b(extradata, _hevc), lambda packet: _annex_b(packet, _hevc)
        case "libdav1d":
            return extradata[:4] + _obus(extradata[4:]), _obus
        case "mjpeg":
            return b"", jpeg.strip
        case "gif":
            return b"", _gif
        case "vp8" | "vp9":
            # These have no place for words.
            return b"", bytes
        case "msmpeg4v2" | "msmpeg4" | "wmv1" | "wmv2" | "wmv3":
            # Nor have these; the two last have four bytes of settings.
            return extradata[:4], bytes
    return None


def _segments(data: bytes, kept: set[int]) -> bytes:
    """What lies between start codes, of MPEG-1, MPEG-2 or MPEG-4 part 2."""
    segments = data.split(START_CODE)
    out = [b""]
    for segment in segments[1:]:
        code = segment[0] if segment else -1
        if code == USER_DATA:
            if sign := _encoder(segment[1:]):
                out.append(bytes([USER_DATA]) + sign)
        elif code in kept and not (
            code == EXTENSION and kept is MPEG12_KEPT and segment[1] >> 4 == COPYRIGHT
        ):
            out.append(segment)
    return START_CODE.join(out)


def _encoder(user_data: bytes) -> bytes:
    """User data that names the encoder, and nothing else; empty where no decoder asks for it."""
    if TMPGENC in user_data[:29]:
        return TMPGENC
    if old := OLD_FFMPEG.match(user_data):
        return b"FFmpegb" + old[1]
    sign = ENCODERS.match(user_data)
    return sign[0] if sign else b""


def _annex_b(data: bytes, unit: Strip) -> bytes:
    """NAL units behind start codes."""
    units = (unit(part.rstrip(b"\x00")) for part in data.split(START_CODE)[1:])
    return b"".join(START_CODE + part for part in units if part)


def _prefixed(data: bytes, length: int, unit: Strip) -> bytes:
    """NAL units behind their sizes, of `length` bytes."""
    units = (unit(part) for part in _sized(data, length))
    return b"".join(len(part).to_bytes(length, "big") + part for part in units if part)


def _sized(data: bytes, length: int) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + length], "big")
        place += length
        if place + size > len(data):
            raise ValueError("a unit is longer than its packet")
        yield data[place : place + size]
        place += size


def _h264(unit: bytes) -> bytes:
    kind = unit[0] & 31 if unit else 0
    return unit if kind in H264_KEPT else _sei(unit, 1) if kind in H264_SEI else b""


def _hevc(unit: bytes) -> bytes:
    kind = unit[0] >> 1 & 63 if unit else 63
    return unit if kind in HEVC_KEPT else _sei(unit, 2) if kind in HEVC_SEI else b""


def _sei(unit: bytes, header: int) -> bytes:
    """Supplemental information: what decoding needs of it; empty where it needs nothing."""
    out = b""
    for kind, payload in _messages(unit[header:].replace(b"\x00\x00\x03", b"\x00\x00")):
        if kind == RECOVERY_POINT and len(payload) <= LONGEST_RECOVERY_POINT:
            out += bytes([kind, len(payload)]) + payload
        elif kind == UNREGISTERED and (sign := X264_SIGN.match(payload)):
            # Old builds coded 4:4:4 in their own way.
            out += bytes([kind, len(sign[0]) + 1]) + sign[0] + b"\x00"
    if not out:
        return b""
    return unit[:header] + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", out) + b"\x80"


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload; what is cut off is left out."""
    place = 0
    while place + 2 < len(data):
        numbers = []
        for _ in range(2):
            number = 0
            while data[place : place + 1] == b"\xff":
                number, place = number + 255, place + 1
            if place == len(data):
                return
            numbers.append(number + data[place])
            place += 1
        kind, size = numbers
        yield kind, data[place : place + size]
        place += size


def _avcc(data: bytes) -> bytes:
    """H.264's record of a decoder's configuration (ISO 14496-15): its sets of parameters."""
    sequences, place = _set_of_parameters(data, 6, data[5] & 31)
    pictures, _ = _set_of_parameters(data, place + 1, data[place])
    return b"".join(
        (
            data[:6],
            _listed(map(_h264, sequences)),
            bytes([len(pictures)]),
            _listed(map(_h264, pictures)),
        )
    )


def _hvcc(data: bytes) -> bytes:
    """HEVC's record of the same."""
    arrays = []
    place = 23
    for _ in range(data[22]):
        kind, count = data[place], int.from_bytes(data[place + 1 : place + 3], "big")
        units, place = _set_of_parameters(data, place + 3, count)
        if kind & 63 in HEVC_KEPT:
            arrays.append(bytes([kind]) + count.to_bytes(2, "big") + _listed(map(_hevc, units)))
    return data[:22] + bytes([len(arrays)]) + b"".join(arrays)


def _set_of_parameters(data: bytes, place: int, count: int) -> tuple[list[bytes], int]:
    """`count` units behind sizes of two bytes, and where they end."""
    units = []
    for _ in range(count):
        size = int.from_bytes(data[place : place + 2], "big")
        units.append(data[place + 2 : place + 2 + size])
        place += 2 + size
    if place > len(data):
        raise ValueError("sets of parameters are cut off")
    return units, place


def _listed(units: Iterable[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _obus(data: bytes) -> bytes:
    """AV1's open bitstream units."""
    out, place = [], 0
    while place < len(data):
        header = data[place]
        start, place = place, place + 1 + (header >> 2 & 1)
        size = len(data) - place
        if header >> 1 & 1:
            size = shift = 0
            while True:
                byte = data[place]
                size |= (byte & 127) << shift
                place, shift = place + 1, shift + 7
                if byte < 128:
                    break
        place += size
        if place > len(data):
            raise ValueError("a unit is longer than its packet")
        if header >> 3 & 15 in AV1_KEPT:
            out.append(data[start:place])
    return b"".join(out)


def _gif(data: bytes) -> bytes:
    """GIF's headers, and images with their times; no other extensions."""
    out, place = [], 0
    if data[:3] == b"GIF":
        place = 13 + _colours(data[10])
        out.append(data[:place])
    while place < len(data) and data[place] != 0x3B:
        start = place
        if data[place] == 0x21:
            place, kept = place + 2, data[place + 1] == 0xF9
        elif data[place] == 0x2C:
            place, kept = place + 11 + _colours(data[place + 9]), True
        else:
            raise ValueError("neither an image nor an extension")
        while data[place]:
            place += 1 + data[place]
        place += 1
        if kept:
            out.append(data[start:place])
    return b"".join(out)


def _colours(flags: int) -> int:
    """Bytes of the table of colours that flags tell of."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0

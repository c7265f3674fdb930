"""How long a video's container says that its file is, which FFmpeg does not look at."""

from typing import BinaryIO

from keyslice.exams.source import UnreadableError

HEAD = 1 << 16
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
GIF_END = b";"
SLACK = 8
"""Bytes by which writers are wrong about the length of sound files."""


def refuse_if_cut_off(content: BinaryIO) -> None:
    """AVI, Matroska, ASF and GIF must not end before their end.

    Args:
        content: is left at its start.

    Raises:
        UnreadableError: it is cut off.
    """
    size = content.seek(0, 2)
    content.seek(max(0, size - HEAD))
    tail = content.read()
    content.seek(0)
    head = content.read(HEAD)
    content.seek(0)
    if head.startswith(b"GIF8"):
        if not tail.rstrip(b"\x00\r\n").endswith(GIF_END):
            raise UnreadableError("cut off: it has no end mark of a GIF")
    elif size + SLACK < (declared := _declared(head)):
        raise UnreadableError(f"cut off: it has {size:,} of the {declared:,} bytes it tells of")


def _declared(head: bytes) -> int:
    """Bytes of the file; 0 where it does not tell."""
    if head[:4] == b"RIFF" and head[4:8] != b"\xff" * 4:
        return 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(EBML):
        size, place = _vint(head, 4)
        place += size
        if head[place : place + 4] == SEGMENT:
            size, place = _vint(head, place + 4)
            return place + size if size else 0
    if head.startswith(ASF) and (place := head.find(ASF_FILE)) > 0:
        return int.from_bytes(head[place + 40 : place + 48], "little")
    return 0


def _vint(data: bytes, place: int) -> tuple[int, int]:
    """A number of Matroska's, 0 for one not known, and where it ends."""
    if place >= len(data) or not data[place]:
        return 0, place
    length = 9 - data[place].bit_length()
    bits = 7 * length
    number = int.from_bytes(data[place : place + length], "big") & (1 << bits) - 1
    return (0 if number == (1 << bits) - 1 else number), place + length

"""NumPy files: .npy, and .npz with one array, or one named `frames`."""

import zipfile
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from keyslice.exams.codecs import raw
from keyslice.exams.exam import Exam, known_measure, known_spacing
from keyslice.exams.source import Reading, SourceFile, UnreadableError

FRAMES, SPACING, FRAME_TIME = "frames.npy", "spacing.npy", "frame_time.npy"
"""Members of an .npz; the last two, in mm and ms, are optional."""
EXPECTED = "it must be (frames, rows, columns), (frames, rows, columns, 3) or (rows, columns)"


class Header(NamedTuple):
    """What precedes the samples of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def read(files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read the array of one file: (T, H, W), (T, H, W, 3), or (H, W), which is one frame.

    Of an .npz, other arrays than `frames`, `spacing` (mm between frames, rows and columns) and
    `frame_time` (ms) are not looked at.

    Raises:
        UnreadableError: of an unsupported type or shape, too large, cut short, or not finite.
        Exception: damaged; `readers.read` makes an UnreadableError of it.
    """
    if len(files) != 1:
        raise UnreadableError(f"an exam of this format is one file; these are {len(files)}")
    spacing = frame_time = None
    with files[0].open() as stream:
        if not files[0].name.lower().endswith(".npz"):
            header, frames = _frames(stream, reading)
        else:
            with zipfile.ZipFile(stream) as archive:
                with archive.open(_frames_member(archive)) as member:
                    header, frames = _frames(cast("BinaryIO", member), reading)
                if (values := _numbers(archive, SPACING, 3)) is not None:
                    spacing = known_spacing(values)
                if (values := _numbers(archive, FRAME_TIME, 1)) is not None:
                    frame_time = known_measure(values[0])
    try:
        frames, encoded = raw.meant(frames)
        return Exam(
            frames=frames,
            encoded=encoded,
            spacing=spacing,
            frame_time=frame_time,
            facts={"source_dtype": header.dtype.name},
        )
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _frames_member(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if FRAMES in names:
        return FRAMES
    others = [name for name in names if name not in (SPACING, FRAME_TIME)]
    if len(others) != 1:
        raise UnreadableError(f"it holds {len(others)} arrays, none of them named frames")
    return others[0]


def _frames(stream: BinaryIO, reading: Reading) -> tuple[Header, np.ndarray]:
    header = _header(stream)
    shape = header.shape if len(header.shape) != 2 else (1, *header.shape)
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] != 3):
        raise UnreadableError(f"an array of shape {header.shape}; {EXPECTED}")
    count, height, width = shape[:3]
    sample_bytes = header.dtype.itemsize * (3 if len(shape) == 4 else 1)
    reading.check_size(count, height, width, sample_bytes)
    return header, _samples(stream, header).reshape(shape)


def _numbers(archive: zipfile.ZipFile, name: str, count: int) -> list[float] | None:
    """The values of a small array, None where there is none of this name."""
    if name not in archive.namelist():
        return None
    with archive.open(name) as member:
        header = _header(cast("BinaryIO", member))
        if int(np.prod(header.shape, dtype=object)) != count:
            raise UnreadableError(
                f"{name.removesuffix('.npy')} has shape {header.shape}; it must hold {count}"
            )
        return [float(value) for value in _samples(cast("BinaryIO", member), header).ravel()]


def _header(stream: BinaryIO) -> Header:
    version = npy.read_magic(stream)
    # Version 3 differs from 2 only in that it may name the fields of structured types.
    if version not in ((1, 0), (2, 0)):
        raise UnreadableError(f"an array file of version {'.'.join(map(str, version))}")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    header = Header(*read_header(stream))
    if header.dtype.kind not in "biuf":
        # The type itself may have text in it: the names of fields.
        raise UnreadableError("the array's samples are no whole or real numbers")
    return header


def _samples(stream: BinaryIO, header: Header) -> np.ndarray:
    """As many as the header tells of, which is checked by now; more or less is an error."""
    shape = header.shape[::-1] if header.fortran else header.shape
    samples = np.empty(shape, header.dtype)
    rest = samples.reshape(-1).view(np.uint8).data
    while len(rest) and (count := stream.readinto(rest)):  # pyright: ignore[reportAttributeAccessIssue]
        rest = rest[count:]
    # At its end a member of an archive is compared with its checksum.
    if len(rest) or stream.read(1):
        raise UnreadableError("damaged or truncated: its length is not what its header tells of")
    return samples.T if header.fortran else samples

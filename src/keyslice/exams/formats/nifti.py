"""NIfTI files: volumes as slices, series of slices as videos, series of volumes slice by slice."""

import gzip
import io
from collections.abc import Sequence
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.orientations import apply_orientation, io_orientation, ornt2axcodes

from keyslice.exams.codecs import raw
from keyslice.exams.exam import Exam, known_measure, known_spacing
from keyslice.exams.source import Reading, SourceFile, UnreadableError

CLEARLY_COARSER = 1.01
"""The slice axis is told by spacing only where it is this many times the next one."""
EXPECTED = "is neither a volume (x, y, z) nor a series of slices or volumes (x, y, z, time)"
MILLIMETRES = {"meter": 1000.0, "micron": 1e-3}
MILLISECONDS = {"sec": 1000.0, "usec": 1e-3}
MOST_INFLATED = 1032
"""Bytes that a byte of a gzip file can become at most."""


def read(files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read a volume (3-D) or a series (4-D), grey or RGB, of one file.

    The image is turned to the nearest RAS+ orientation first. Frames of a volume run along
    `slice_axis` of the turned image (0 sagittal, 1 coronal, 2 axial) towards right, front or head;
    `auto` takes the axis of coarsest spacing, else the last. Within a frame, rows start at the head
    (in axial slices: at the front), columns at the patient's right (in sagittal ones: at the
    front): the radiological convention. `Exam.reversed` tells whether the file has the frames in
    the opposite order.

    A series whose third axis has length 1 is a video: its frames run along time. Of any other
    series (z slices at t times) the frames are the slices of the first time, then those of the
    second, … (t · z), the slices of each in the order in which the file has them; such an exam
    has no `frame_time`, and no `slice_axis` among its facts.

    Raises:
        UnreadableError: of an unsupported type or shape, too large, or not finite.
        Exception: damaged or truncated; `readers.read` makes an UnreadableError of it.
    """
    if len(files) != 1:
        raise UnreadableError(f"a NIfTI exam is one file; these are {len(files)}")
    with files[0].open() as source:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        packed = files[0].name.lower().endswith(".gz")
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=source)) if packed else source
        return _read(stream, size, packed, reading)


def _read(stream: BinaryIO, size: int, packed: bool, reading: Reading) -> Exam:
    header = _header(stream)
    dtype, shape = np.dtype(header.get_data_dtype()), tuple(map(int, header.get_data_shape()))
    needed = header.get_data_offset() + dtype.itemsize * int(np.prod(shape, dtype=object))
    if needed > size * (MOST_INFLATED if packed else 1):
        raise UnreadableError("damaged or truncated: it is too short for its header's shape")
    if len(shape) == 4 and shape[3] == 1 < shape[2]:
        shape = shape[:3]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UnreadableError(f"an image of shape {shape} {EXPECTED}")
    colour = dtype.fields is not None
    if colour and dtype.names != ("R", "G", "B"):
        raise UnreadableError(f"samples of type {dtype} are not supported; RGB is")
    turn = io_orientation(header.get_best_affine())
    if np.isnan(turn).any():
        raise UnreadableError("damaged: its affine leaves out an axis")
    source_axes = np.argsort(turn[:, 0])
    sizes = [shape[a] for a in source_axes]
    space, time = map(str, header.get_xyzt_units())
    zooms = [float(z) for z in header.get_zooms()]
    spacing = known_spacing(zooms[a] * MILLIMETRES.get(space, 1.0) for a in source_axes)
    frame_time, times = None, 1
    facts: dict[str, str | int] = {
        "orientation": "".join(map(str, ornt2axcodes(turn))),
        "source_dtype": "rgb" if colour else dtype.name,
    }
    if len(shape) == 4 and shape[2] == 1:
        axis, times, spacing = int(turn[2, 0]), shape[3], None
        frame_time = known_measure(zooms[3] * MILLISECONDS.get(time, 1.0))
    else:
        axis = _coarsest(spacing) if reading.slice_axis == "auto" else reading.slice_axis
        if len(shape) == 3:
            facts["slice_axis"] = axis
        else:
            # Frames of several volumes have no "other end" to be numbered from.
            times, turn[source_axes[axis], 1] = shape[3], 1
    columns, rows = (a for a in range(3) if a != axis)
    slope, intercept = header.get_slope_inter()
    if colour or slope is None or intercept is None:  # the standard scales no colours
        slope, intercept = 1.0, 0.0
    sample_bytes = max(dtype.itemsize, 4 if (slope, intercept) != (1, 0) else 1)
    reading.check_size(times * sizes[axis], sizes[rows], sizes[columns], sample_bytes)
    samples = ArrayProxy(stream, header).get_unscaled().reshape((*shape[:3], times), order="F")
    if packed:
        stream.read(1)  # makes gzip compare its checksum
    turned = apply_orientation(samples, turn)
    frames = np.moveaxis(turned, (3, axis, rows, columns), (0, 1, 2, 3))[:, :, ::-1, ::-1]
    if colour:
        frames = np.stack([frames[name] for name in ("R", "G", "B")], axis=-1)
    frames = frames.reshape(-1, *frames.shape[2:])
    try:
        frames, encoded = raw.meant(frames, slope, intercept)
        return Exam(
            frames=frames,
            encoded=encoded,
            spacing=spacing and (spacing[axis], spacing[rows], spacing[columns]),
            frame_time=frame_time,
            facts=facts,
        )
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _header(stream: BinaryIO) -> nib.Nifti1Header:
    """Without the extensions that may follow: text, and as long as they say they are."""
    start = stream.read(nib.Nifti2Header.sizeof_hdr)
    if start[4:8] == b"n+2\0":
        return nib.Nifti2Header(start)
    if start[344:348] == b"n+1\0":
        return nib.Nifti1Header(start[: nib.Nifti1Header.sizeof_hdr])
    raise UnreadableError("damaged or truncated: it does not start as a NIfTI file does")


def _coarsest(spacing: tuple[float, float, float] | None) -> int:
    """The axis whose spacing clearly exceeds the others', else the last."""
    if spacing is None:
        return 2
    first, second = sorted(range(3), key=lambda a: (spacing[a], a), reverse=True)[:2]
    return first if spacing[first] > CLEARLY_COARSER * spacing[second] else 2

"""NIfTI files: volumes as slices, and series with one slice and a time axis as videos."""

from pathlib import Path
from typing import Literal, cast

import nibabel as nib
import numpy as np

from keyslice.exams.exam import Exam, known_measure, known_spacing
from keyslice.exams.source import UnreadableError

SliceAxis = Literal["auto", 0, 1, 2]

CLEARLY_COARSER = 1.01
"""The slice axis is told by spacing only where it is this many times the next one."""
LARGEST_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""
EXPECTED = "is neither a volume (x, y, z) nor a video (x, y, 1, time)"
MILLIMETRES = {"meter": 1000.0, "micron": 1e-3}
MILLISECONDS = {"sec": 1000.0, "usec": 1e-3}


def read(path: Path, slice_axis: SliceAxis = "auto") -> Exam:
    """Read a volume (3-D), a video (4-D with a third axis of length 1), grey or RGB.

    The image is turned to the nearest RAS+ orientation first. Frames run along `slice_axis` of
    the turned image (0 sagittal, 1 coronal, 2 axial) towards right, front or head; `auto` takes
    the axis of coarsest spacing, else the last. Within a frame, rows start at the head (in axial
    slices: at the front), columns at the patient's right (in sagittal ones: at the front): the
    radiological convention. A video's frames run along time. `Exam.reversed` tells whether the file
    has the frames in the opposite order.

    Raises:
        UnreadableError: of an unsupported type or shape, or not finite.
        Exception: damaged or truncated; `readers.read` makes an UnreadableError of it.
    """
    stored = cast("nib.Nifti1Image", nib.load(path))  # or NIfTI-2, which has the same parts
    source_dtype = np.dtype(stored.get_data_dtype())
    orientation = "".join(map(str, nib.aff2axcodes(stored.affine)))
    if len(stored.shape) < 3:
        raise UnreadableError(f"an image of shape {stored.shape} {EXPECTED}")
    image = nib.as_closest_canonical(stored)
    samples = np.asanyarray(image.dataobj)
    space, time = map(str, image.header.get_xyzt_units())
    zooms = [float(z) for z in image.header.get_zooms()]
    if samples.dtype.fields is not None:
        samples = _colour(samples)
    colour = samples.dtype == np.uint8 and source_dtype.fields is not None
    axes = samples.ndim - int(colour)
    sizes = samples.shape[:axes]
    facts: dict[str, str | int] = {
        "orientation": orientation,
        "source_dtype": "rgb" if colour else source_dtype.name,
    }
    spacing = known_spacing(z * MILLIMETRES.get(space, 1.0) for z in zooms[:3])
    frame_time = None
    if axes == 3:
        axis = _coarsest(spacing) if slice_axis == "auto" else slice_axis
        facts["slice_axis"] = axis
    elif axes == 4 and sizes[2] == 1:
        axis, samples, spacing = 2, samples[:, :, 0], None
        frame_time = known_measure(zooms[3] * MILLISECONDS.get(time, 1.0))
    else:
        raise UnreadableError(f"an image of shape {sizes} {EXPECTED}")
    columns, rows = (a for a in range(3) if a != axis)
    frames = np.moveaxis(samples, (axis, rows, columns), (0, 1, 2))[:, ::-1, ::-1]
    try:
        return Exam(
            frames=np.ascontiguousarray(_lossless(frames)),
            spacing=spacing and (spacing[axis], spacing[rows], spacing[columns]),
            frame_time=frame_time,
            facts=facts,
        )
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _coarsest(spacing: tuple[float, float, float] | None) -> int:
    """The axis whose spacing clearly exceeds the others', else the last."""
    if spacing is None:
        return 2
    first, second = sorted(range(3), key=lambda a: (spacing[a], a), reverse=True)[:2]
    return first if spacing[first] > CLEARLY_COARSER * spacing[second] else 2


def _colour(samples: np.ndarray) -> np.ndarray:
    """RGB records (…) as samples (…, 3)."""
    if samples.dtype.names != ("R", "G", "B"):
        raise UnreadableError(f"samples of type {samples.dtype} are not supported; RGB is")
    return np.stack([samples[name] for name in ("R", "G", "B")], axis=-1)


def _lossless(frames: np.ndarray) -> np.ndarray:
    """The same values as uint8, int16 or float32.

    Whole numbers keep their exact values. Real numbers of double precision, those that the
    header's scaling makes included, are rounded to single precision (6e-8 of the value).
    """
    kind, dtype = frames.dtype.kind, frames.dtype.newbyteorder("=")
    if dtype in (np.uint8, np.int16, np.float32):
        return frames.astype(dtype, copy=False)
    if kind in "iu":
        low, high = int(frames.min()), int(frames.max())
        if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
            return frames.astype(np.int16)
        if max(-low, high) <= LARGEST_EXACT:
            return frames.astype(np.float32)
        raise ValueError(f"whole numbers up to {max(-low, high)} do not fit float32 without loss")
    if kind == "f":
        with np.errstate(over="ignore"):
            return frames.astype(np.float32)
    raise ValueError(f"samples of type {dtype} are not supported; whole and real numbers are")

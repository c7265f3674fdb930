"""Frames of DICOM objects: JPEG, JPEG-LS and JPEG 2000 streams, and slices scaled one by one."""

import io
import itertools
import logging
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gdcm
import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from keyslice.exams.codecs import raw
from keyslice.exams.samples import LARGEST_EXACT, lossless
from keyslice.exams.stripping import jpeg

PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}
"""What decodes each syntax. Never another one where that fails: samples would depend on it."""
YBR = ("YBR_FULL", "YBR_FULL_422")
SAME = (1.0, 0.0)
"""Slope and intercept that change nothing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps libraries from printing or logging what they object to: they quote the header."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def decode(parameters: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """See `keyslice.exams.codecs`.

    Args:
        parameters: those that `assemble` knows; or `stored`, of the codec raw, and `rescale`.
        parts: a stream for each frame and, where there is one, the palette; or the part of raw.

    Raises:
        Exception: whatever damaged parts make the libraries do.
    """
    if "stored" in parameters:
        return rescaled(raw.decode(parameters["stored"], parts), parameters["rescale"])
    first = parameters["palette"]
    coded = parts if first is None else parts[:-1]
    palette = None if first is None else np.frombuffer(parts[-1], np.uint8).reshape(-1, 3)
    with quiet():
        frames = (frame(parameters, part) for part in coded)
        volume = assemble(parameters, frames, len(coded), palette)
    return rescaled(volume, parameters["rescale"])


def frame(
    parameters: Mapping[str, Any], data: bytes, number: int = 0, count: int = 1
) -> np.ndarray:
    """One frame (H,W) or, in colour, (H,W,3) as the file has it, YBR turned to RGB.

    Args:
        parameters: `syntax`, `keyword`, `vr`, and the elements of the image pixel module.
        data: a compressed frame; or all samples of an uncompressed object.
        number: of the frame in an uncompressed object.
        count: frames of it.
    """
    syntax = uid.UID(parameters["syntax"])
    if syntax == uid.RLELossless:
        return _by_runs(parameters, data)
    if syntax == uid.JPEGExtended12Bit and jpeg.form(data)[3] > 8:
        return _by_gdcm(parameters, data)
    if syntax == uid.JPEGBaseline8Bit and parameters["photometric"] in YBR:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        if "adobe" not in image.info:  # which might tell another transformation than the header
            return np.asarray(image)  # RGB, in a fourth of the time
    options: dict[str, Any] = {
        "number_of_frames": count,
        "rows": parameters["rows"],
        "columns": parameters["columns"],
        "samples_per_pixel": parameters["samples"],
        "planar_configuration": parameters["planar"],
        "photometric_interpretation": parameters["photometric"],
        "bits_allocated": parameters["bits_allocated"],
        "bits_stored": parameters["bits_stored"],
        "pixel_representation": parameters["signed"],
        "pixel_keyword": parameters["keyword"],
        "pixel_vr": parameters["vr"],
    }
    source = encapsulate([data]) if syntax.is_encapsulated else data
    decoded, _ = get_decoder(syntax).as_array(
        source, index=number, decoding_plugin=PLUGINS.get(syntax, ""), **options
    )
    return decoded


def _by_runs(parameters: Mapping[str, Any], data: bytes) -> np.ndarray:
    """Run lengths: a segment for each byte of a sample, that of most weight first, and channel.

    Those of TIFF's PackBits are the same, and decoded many times faster than by pydicom.
    """
    rows, columns, samples = (parameters[name] for name in ("rows", "columns", "samples"))
    each = parameters["bits_allocated"] // 8
    number, *starts = struct.unpack("<16I", data[:64])
    if number != samples * each:
        raise ValueError(f"{number} segments of run lengths do not make its kind of samples")
    starts = [*starts[:number], len(data)]
    decoded = np.empty((rows * columns, samples, each), np.uint8)
    for place, (start, end) in enumerate(itertools.pairwise(starts)):
        # One long row: runs may go on from one of the image to the next.
        plane = Image.frombytes("L", (rows * columns, 1), data[start:end], "packbits", "L")
        decoded[:, place // each, place % each] = np.asarray(plane)[0]
    typed = decoded.view(f">{'ui'[parameters['signed']]}{each}")
    shaped = typed.reshape((rows, columns) if samples == 1 else (rows, columns, samples))
    if unused := parameters["bits_allocated"] - parameters["bits_stored"]:
        shaped = shaped << unused >> unused
    return (
        convert_color_space(shaped, "YBR_FULL", "RGB")
        if parameters["photometric"] in YBR
        else shaped
    )


def _by_gdcm(parameters: Mapping[str, Any], data: bytes) -> np.ndarray:
    """JPEG of 12 bits, which GDCM decodes, although pydicom does not let it."""
    fragments = gdcm.SequenceOfFragments.New()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    rows, columns, samples = (parameters[name] for name in ("rows", "columns", "samples"))
    allocated, stored = parameters["bits_allocated"], parameters["bits_stored"]
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(parameters["photometric"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(parameters["planar"])
    image.SetTransferSyntax(
        gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(parameters["syntax"]))
    )
    image.SetPixelFormat(
        gdcm.PixelFormat(samples, allocated, stored, stored - 1, parameters["signed"])
    )
    # The bytes come as text, each as one of its letters or a surrogate.
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    decoded = np.frombuffer(buffer, f"<{'ui'[parameters['signed']]}{allocated // 8}")
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    return decoded.reshape(shape)


def assemble(
    parameters: Mapping[str, Any],
    frames: Iterable[np.ndarray],
    count: int,
    palette: np.ndarray | None,
) -> np.ndarray:
    """Frames together: in colour, and turned; not yet `rescaled`.

    Args:
        parameters: `shift`: unused bits below the samples; `inverted`: the number of stored bits
            for MONOCHROME1, or None; `palette`: the sample that the first colour stands for, or
            None; `turn`: whether to transpose, flip rows, flip columns.
        frames: of one shape and type.
        count: of frames.
        palette: (n, 3), uint8.

    Raises:
        ValueError: frames differ in shape or type, or are none.
    """
    transpose, flip_rows, flip_columns = parameters["turn"]
    expected = (parameters["rows"], parameters["columns"])
    volume: np.ndarray | None = None
    for number, one in enumerate(frames):
        if one.shape[:2] != expected:
            raise ValueError("a frame has another size than its header says")
        if parameters["shift"]:
            one = one >> parameters["shift"]
        if parameters["inverted"] is not None:
            one = _inverted(one, parameters["inverted"])
        if palette is not None:
            place = one.astype(np.int64) - parameters["palette"]
            one = palette[place.clip(0, len(palette) - 1)]
        one = one.swapaxes(0, 1) if transpose else one
        one = one[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        if volume is None:
            volume = np.empty((count, *one.shape), one.dtype.newbyteorder("="))
        if one.dtype.newbyteorder("=") != volume.dtype or one.shape != volume.shape[1:]:
            raise ValueError("frames differ in their type")
        volume[number] = one
    if volume is None:
        raise ValueError("there are no frames")
    return volume


def _inverted(samples: np.ndarray, bits: int) -> np.ndarray:
    """So that more is brighter: least and most of the stored bits change places."""
    if samples.dtype.kind == "f":
        return -samples
    if samples.dtype.kind == "i":
        return ~samples
    return samples ^ samples.dtype.type((1 << min(bits, 8 * samples.itemsize)) - 1)


def rescaled(volume: np.ndarray, pairs: Sequence[Sequence[float]]) -> np.ndarray:
    """Frames in the units of the modality: int16 where they are whole and in range, else float32.

    Args:
        volume: (T,H,W) or (T,H,W,3); may be overwritten where the result is int16.
        pairs: slope and intercept of each frame; one pair where all have the same.

    Raises:
        ValueError: whole numbers that do not fit.
    """
    if all(tuple(pair) == SAME for pair in pairs):
        return lossless(volume)
    pairs = [*pairs] * (len(volume) if len(pairs) == 1 else 1)
    whole = volume.dtype.kind in "iu" and all(float(v).is_integer() for pair in pairs for v in pair)
    if whole:
        flat = volume.reshape(len(volume), -1)
        ends = [
            int(slope) * int(value) + int(intercept)
            for extremes in (flat.min(axis=1), flat.max(axis=1))
            for value, (slope, intercept) in zip(extremes, pairs, strict=True)
        ]
        low, high = min(ends), max(ends)
        if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
            # Modulo 65536, which is exact where the results are known to fit.
            short = volume.view(np.int16) if volume.itemsize == 2 else volume.astype(np.int16)
            for one, (slope, intercept) in zip(short, pairs, strict=True):
                if slope != 1:
                    one *= _modular(slope)
                if intercept:
                    one += _modular(intercept)
            return short
        if max(-low, high) > LARGEST_EXACT:
            raise ValueError(
                f"whole numbers up to {max(-low, high)} do not fit float32 without loss"
            )
    real = np.empty(volume.shape, np.float32)
    with np.errstate(over="ignore"):
        for out, one, (slope, intercept) in zip(real, volume, pairs, strict=True):
            out[...] = one.astype(np.float64) * slope + intercept
    return real


def _modular(value: float) -> np.int16:
    return np.uint16(int(value) % 65536).view(np.int16)

"""Folders of images, a frame each, and TIFF files with a frame on each page."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from PIL import Image

from keyslice.exams.codecs import images as codec
from keyslice.exams.codecs import raw
from keyslice.exams.codecs.images import DIFFERS, UPRIGHT, Form
from keyslice.exams.exam import Encoded, Exam
from keyslice.exams.source import Reading, SourceFile, UnreadableError
from keyslice.exams.stripping import jpeg, png

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
ORIENTATION = 274
"""EXIF's tag, and TIFF's."""
EXIF = b"Exif\0\0"
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF."""
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2


def read(files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read images of one size and kind, a frame each, in the natural order of their names.

    A single file may have several pages, which are frames then. Grey stays grey, 0 and 255 where
    there is one bit a pixel; palettes and CMYK become RGB; what is transparent is seen over black.
    Frames are turned as EXIF says.

    Raises:
        UnreadableError: images that differ, that are too large, or of a kind that is not supported.
        Exception: damaged or truncated; `readers.read` makes an UnreadableError of it.
    """
    ordered = sorted(files, key=lambda file: natural(file.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that Pillow finds damaged
        encoded = _encoded(ordered, reading)
        try:
            frames = encoded and codec.decode(encoded.parameters, encoded.parts)
        except codec.SpareBytesError:
            encoded = frames = None
        if frames is None:
            frames = _decoded(ordered, reading)
    source_dtype = encoded.parameters["dtype"] if encoded else frames.dtype.name
    try:
        if encoded is None:
            frames, encoded = raw.meant(frames)
        return Exam(frames, facts={"source_dtype": source_dtype}, encoded=encoded)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def natural(name: str) -> tuple[list[str | int], str]:
    """What names are ordered by so that `2.png` comes before `10.png`."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def _encoded(files: Sequence[SourceFile], reading: Reading) -> Encoded | None:
    """PNG and JPEG files without their metadata; none where other ones are among them."""
    parts: list[bytes] = []
    orientations: list[int] = []
    first: Form | None = None
    for stream in (file.open() for file in files):
        with stream:
            start = stream.read(len(png.SIGNATURE))
            if start != png.SIGNATURE and start[:2] != b"\xff\xd8":
                return None
            stream.seek(0)
            data = stream.read()
        if start == png.SIGNATURE:
            if png.chunk(data, b"acTL") is not None:  # animated
                return None
            part, exif = png.strip(data), png.chunk(data, b"eXIf")
        else:
            part, exif = jpeg.strip(data), _jpeg_exif(data)
        parts.append(part)
        orientations.append(UPRIGHT if exif is None else _orientation(partial(_loaded, exif)))
        if first is None:
            with codec.open_image(io.BytesIO(part), codec.FORMATS) as image:
                first = codec.form(image, orientations[0])
            _check_size(len(files), first, reading)
    if first is None:
        raise UnreadableError("there is no image")
    return Encoded("images", codec.describe(first, orientations), tuple(parts))


def _jpeg_exif(data: bytes) -> bytes | None:
    """The content of the segment that may tell an orientation; it comes before the picture."""
    place = data.find(EXIF)
    if place < 4 or data[place - 4 : place - 2] != b"\xff\xe1":
        return None
    return data[place : place - 2 + int.from_bytes(data[place - 2 : place], "big")]


def _orientation(read: Callable[[], Image.Exif]) -> int:
    """As EXIF tells; upright where it tells none, or is damaged: the picture need not be."""
    try:
        orientation: object = read().get(ORIENTATION)
    except Exception:  # whatever Pillow makes of such bytes
        return UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def _loaded(exif: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(exif)
    return found


def _decoded(files: Sequence[SourceFile], reading: Reading) -> np.ndarray:
    """Frames of images of all kinds, before `samples.lossless`."""
    frames, first = np.empty(0), None
    for number, (count, image) in enumerate(_pages(files)):
        # Pillow turns TIFF files itself.
        turn = image.format != "TIFF"
        form = codec.form(image, UPRIGHT)
        if first is None:
            _check_size(count, form, reading)
        elif image.size != first:
            raise UnreadableError(f"image {number + 1} of {count} {DIFFERS}")
        first = image.size
        orientation = _orientation(image.getexif) if turn else UPRIGHT
        frame = codec.turned(_as_written(image), orientation)
        if not number:
            frames = np.empty((count, *frame.shape), frame.dtype)
        if (frame.shape, frame.dtype) != (frames.shape[1:], frames.dtype):
            raise UnreadableError(f"image {number + 1} of {count} {DIFFERS}")
        frames[number] = frame
    return frames


def _pages(files: Sequence[SourceFile]) -> Iterator[tuple[int, Image.Image]]:
    """How many images there are, and each in turn, not yet decoded."""
    for stream in (file.open() for file in files):
        with stream, codec.open_image(stream, FORMATS) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and len(files) > 1:
                raise UnreadableError(
                    f"one of {len(files)} images has {pages} pages; a file of several pages is an "
                    "exam of its own"
                )
            for page in range(pages):
                image.seek(page)
                yield max(pages, len(files)), image


def _as_written(image: Image.Image) -> np.ndarray:
    """The samples; of TIFF files also where Pillow takes them for others than they are."""
    samples = codec.samples(image)
    if image.format != "TIFF":
        return samples
    tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
    bits, kind = tags.get(BITS, (1,))[0], tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    if image.mode == "L" and kind == SIGNED:
        return samples.view(np.int8)
    if image.mode == "I" and (bits, kind) == (32, UNSIGNED):
        return samples.view(np.uint32)
    if image.mode == "I;16" and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return np.iinfo(np.uint16).max - samples
    return samples


def _check_size(count: int, form: Form, reading: Reading) -> None:
    sample_bytes = np.dtype(form.dtype).itemsize * (3 if len(form.shape) == 3 else 1)
    height, width = form.shape[:2]
    reading.check_size(count, height, width, sample_bytes)

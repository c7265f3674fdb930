"""PNG and JPEG files, one frame each, decoded by Pillow."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from keyslice.exams.samples import lossless
from keyslice.exams.source import UnreadableError
from keyslice.exams.stripping import png

GREY = {
    "1": "uint8",
    "L": "uint8",
    "LA": "uint8",
    "La": "uint8",
    "I;16": "uint16",
    "I;16B": "uint16",
    "I": "int32",
    "F": "float32",
}
"""Types of the samples of Pillow's modes."""
COLOUR = ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr")
SIXTEEN_BIT_COLOUR = re.compile(r"(RGB|CMYK|LA)[^;]*;16")
"""Pillow's own names of what it reads with half of its bits only."""
FORMATS = ("PNG", "JPEG")
UPRIGHT = 1
"""EXIF's number of an image that need not be turned."""
DIFFERS = "is of another size or kind than the first"


class SpareBytesError(Exception):
    """A PNG file's coded samples go on after its last pixel: they may hold anything."""


class Form(NamedTuple):
    """What all images of an exam have in common; samples as they are before `lossless`."""

    shape: tuple[int, ...]
    """(H, W) or (H, W, 3), after turning."""
    dtype: str


def decode(parameters: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """See `keyslice.exams.codecs`; `parameters` as `describe` makes them.

    Raises:
        UnreadableError: a part is no image, or one that differs in form from what they say.
        SpareBytesError: a part cannot be told to be free of other things.
    """
    expected = Form(tuple(parameters["shape"]), parameters["dtype"])
    orientations = parameters["orientations"] or [UPRIGHT] * len(parts)
    frames = np.empty((len(parts), *expected.shape), expected.dtype)
    for number, (part, orientation) in enumerate(zip(parts, orientations, strict=True)):
        stream = io.BytesIO(part)
        with open_image(stream, FORMATS) as image:
            if form(image, orientation) != expected:
                raise UnreadableError(f"image {number + 1} of {len(parts)} {DIFFERS}")
            if image.format == "PNG":
                _watch(image, stream, len(part) - png.AFTER_SAMPLES)
            frames[number] = turned(samples(image), orientation)
    return lossless(frames)


def describe(form: Form, orientations: Sequence[int]) -> dict[str, Any]:
    """Parameters of this codec.

    Args:
        form: of every image.
        orientations: of each, as EXIF numbers them (1 to 8).
    """
    upright = all(orientation == UPRIGHT for orientation in orientations)
    return {
        "shape": list(form.shape),
        "dtype": form.dtype,
        "orientations": [] if upright else list(orientations),
    }


def open_image(stream: BinaryIO, formats: tuple[str, ...]) -> Image.Image:
    """With its header read, not decoded.

    Raises:
        UnreadableError: it is no image of one of the formats, or one beyond Pillow's own limit.
    """
    try:
        return Image.open(stream, formats=formats)
    except UnidentifiedImageError:  # its message names the stream
        raise UnreadableError("damaged, truncated, or no image of a known kind") from None
    except Image.DecompressionBombError:
        raise UnreadableError("it has more pixels a frame than are ever taken") from None


def form(image: Image.Image, orientation: int) -> Form:
    """As its header tells.

    Raises:
        UnreadableError: its samples are of a kind that cannot be kept.
    """
    if image.mode not in GREY and image.mode not in COLOUR:
        raise UnreadableError(f"images of Pillow's mode {image.mode} are not supported")
    if any(SIXTEEN_BIT_COLOUR.match(_raw_mode(tile.args)) for tile in getattr(image, "tile", ())):
        raise UnreadableError("colour or transparency of 16 bits a channel is not supported")
    width, height = image.size
    size = (height, width) if orientation < 5 else (width, height)
    return Form(size, GREY[image.mode]) if image.mode in GREY else Form((*size, 3), "uint8")


def samples(image: Image.Image) -> np.ndarray:
    """Decode: (H, W), or (H, W, 3) where the form is colour; what is transparent over black."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image)
        return grey if key is None else np.where(grey == key, 0, grey)
    if image.mode in ("LA", "La") or (image.mode in ("1", "L") and key is not None):
        return _premultiplied(image, "LA", "La")[..., 0]
    if image.mode in ("RGBA", "RGBa", "PA") or (image.mode in ("P", "RGB") and key is not None):
        return _premultiplied(image, "RGBA", "RGBa")[..., :3]
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in COLOUR and image.mode != "RGB":
        return np.asarray(image.convert("RGB"))
    return np.asarray(image)


def turned(samples: np.ndarray, orientation: int) -> np.ndarray:
    """As an EXIF orientation (1 to 8) wants it seen.

    From 5 on rows and columns are swapped; then rows run from the bottom in 3, 4, 7 and 8, columns
    from the right in 2, 3, 6 and 7.
    """
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return samples[rows, columns]


def _watch(image: Image.Image, stream: BinaryIO, end: int) -> None:
    """Have decoding fail where it is done before it has read up to `end`; see `png.strip`."""
    finish = image.load_end  # pyright: ignore[reportAttributeAccessIssue]

    def load_end() -> None:
        if stream.tell() < end:
            raise SpareBytesError
        finish()

    # Pillow calls it when the last row is decoded.
    image.load_end = load_end  # pyright: ignore[reportAttributeAccessIssue]


def _premultiplied(image: Image.Image, straight: str, multiplied: str) -> np.ndarray:
    if image.mode != multiplied:
        image = (image if image.mode == straight else image.convert(straight)).convert(multiplied)
    return np.asarray(image)


def _raw_mode(args: object) -> str:
    """Of a tile's decoder, whose arguments are that alone or begin with it."""
    return str(args[0] if isinstance(args, tuple) and args else args)

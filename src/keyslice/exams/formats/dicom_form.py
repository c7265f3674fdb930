"""The form of a DICOM object's samples, and the samples themselves, as they lie in the file."""

from math import ceil
from typing import NamedTuple

import numpy as np
from pydicom import Dataset, uid
from pydicom.pixels.processing import apply_color_lut

from keyslice.exams.formats.dicom_file import ENDED, Samples, count, frames, syntax, text, vector
from keyslice.exams.source import UnreadableError
from keyslice.exams.stripping import jpeg, jpeg2000

CODINGS = {
    uid.RLELossless: "rle",
    uid.JPEGBaseline8Bit: "jpeg",
    uid.JPEGExtended12Bit: "jpeg",
    uid.JPEGLossless: "jpeg-lossless",
    uid.JPEGLosslessSV1: "jpeg-lossless",
    uid.JPEGLSLossless: "jpeg-ls",
    uid.JPEGLSNearLossless: "jpeg-ls",
    uid.JPEG2000Lossless: "jpeg2000",
    uid.JPEG2000: "jpeg2000",
    uid.HTJ2KLossless: "htj2k",
    uid.HTJ2KLosslessRPCL: "htj2k",
    uid.HTJ2K: "htj2k",
    **dict.fromkeys(uid.MPEGTransferSyntaxes, "h264"),
    uid.MPEG2MPML: "mpeg2",
    uid.MPEG2MPMLF: "mpeg2",
    uid.MPEG2MPHL: "mpeg2",
    uid.MPEG2MPHLF: "mpeg2",
    uid.HEVCMP51: "hevc",
    uid.HEVCM10P51: "hevc",
}
"""How samples are compressed, by transfer syntax."""
VIDEOS = {"mpeg2", "h264", "hevc"}
STREAMS = {
    **dict.fromkeys(("jpeg", "jpeg-lossless", "jpeg-ls"), (jpeg.strip, jpeg.form)),
    **dict.fromkeys(("jpeg2000", "htj2k"), (jpeg2000.strip, jpeg2000.form)),
}
"""How a frame of each coding is stripped, and told the form of."""
CHANNELS = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
"""Samples a pixel, by photometric interpretation."""
VIDEO_COLOURS = {"YBR_PARTIAL_420", "YBR_PARTIAL_422"}
BITS = (1, 8, 16, 32, 64)
NOT_AS_SAID = "its samples are not compressed as its header says"


class Form(NamedTuple):
    """What the objects of a series must have in common."""

    syntax: str
    rows: int
    columns: int
    photometric: str
    planar: int
    keyword: str
    vr: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: int
    palette: tuple[int, bytes] | None
    """The sample that the first colour stands for, and (n, 3) uint8."""

    @property
    def coding(self) -> str | None:
        """See `CODINGS`; None: not compressed."""
        return CODINGS.get(uid.UID(self.syntax))

    @property
    def channels(self) -> int:
        """Of the samples in the file."""
        return CHANNELS.get(self.photometric, 3)

    def frame_bytes(self) -> float:
        """Of one that is not compressed; with less than eight bits a sample, parts of bytes."""
        pixel = self.bits_allocated * self.channels / 8
        return (
            self.rows
            * self.columns
            * (pixel * 2 / 3 if self.photometric == "YBR_FULL_422" else pixel)
        )

    def sample_bytes(self, rescale: tuple[float, float]) -> int:
        """Of one pixel of an exam."""
        whole = "Float" not in self.keyword and all(value.is_integer() for value in rescale)
        if not whole or self.bits_stored > 16:
            each = 4
        else:
            each = 1 if self.bits_allocated <= 8 and rescale == (1.0, 0.0) else 2
        return each * (3 if self.palette else self.channels)


DIFFERENCES = {
    "compressions": ("syntax",),
    "sizes": ("rows", "columns"),
    "kinds of colour": ("photometric", "planar"),
    "types of samples": ("keyword", "vr", "bits_allocated", "bits_stored", "high_bit", "signed"),
    "palettes": ("palette",),
}
"""In words, how forms differ, and in what."""


def form_of(dataset: Dataset, where: Samples) -> Form:
    """That of the samples there.

    Raises:
        UnreadableError: it is not supported, or the header does not tell it.
    """
    written = syntax(dataset)
    coding = CODINGS.get(written)
    if coding is None and (written not in uid.AllTransferSyntaxes or written.is_encapsulated):
        raise UnreadableError("its compression is none that is supported")
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if photometric not in CHANNELS and not (coding in VIDEOS and photometric in VIDEO_COLOURS):
        raise UnreadableError("its colours are of a kind that is not supported")
    channels = count(dataset, "SamplesPerPixel", 1)
    if channels != CHANNELS.get(photometric, 3):
        raise UnreadableError(f"{channels} samples a pixel do not fit its kind of colour")
    allocated = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(where.keyword)
    allocated = allocated or count(dataset, "BitsAllocated")
    if allocated not in BITS:
        raise UnreadableError(f"{allocated} bits a sample are not supported")
    stored = min(count(dataset, "BitsStored", allocated) or allocated, allocated)
    high = count(dataset, "HighBit", stored - 1)
    rows, columns = count(dataset, "Rows"), count(dataset, "Columns")
    if not rows or not columns:
        raise UnreadableError("it has no pixels")
    return Form(
        syntax=str(written),
        rows=rows,
        columns=columns,
        photometric=photometric,
        planar=count(dataset, "PlanarConfiguration", 0) if channels > 1 else 0,
        keyword=where.keyword,
        vr=where.vr,
        bits_allocated=allocated,
        bits_stored=stored,
        # Where samples do not end at that bit, as some old devices have them shifted up.
        high_bit=high if coding is None and stored <= high < allocated else stored - 1,
        signed=min(count(dataset, "PixelRepresentation", 0), 1),
        palette=_palette(dataset) if photometric == "PALETTE COLOR" else None,
    )


def _palette(dataset: Dataset) -> tuple[int, bytes]:
    described = vector(dataset, "RedPaletteColorLookupTableDescriptor", 3)
    if described is None:
        raise UnreadableError("its palette is not described")
    size, first, bits = map(int, described)
    size = size or 2**16
    places = np.arange(first, first + size)
    try:
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTableData"
            if bits == 8 and len(dataset.get(name) or b"") == size + 1:
                dataset[name].value = dataset[name].value[:size]  # padding, which the library minds
        colours = apply_color_lut(places, dataset)
    except Exception as error:  # without the message, which may quote the header
        raise UnreadableError(f"its palette is damaged ({type(error).__name__})") from None
    if colours.dtype != np.uint8:
        # Some write 8 bits into 16.
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    return first, colours.tobytes()


def parts_of(form: Form, where: Samples, content: bytes, many: int) -> list[bytes]:
    """Compressed frames, of JPEG streams only what decoding needs; a video; or all samples.

    Args:
        form: of the samples.
        where: they are.
        content: from there on.
        many: frames.

    Raises:
        UnreadableError: it is not as form and number say, or ends early.
        ValueError: a stream is damaged.
    """
    if (form.coding is None) != (where.length is not None):
        raise UnreadableError(NOT_AS_SAID)
    if form.coding is None:
        expected = ceil(form.frame_bytes() * many)
        if len(content) < expected:
            raise UnreadableError(ENDED)
        return [content if len(content) <= expected + 1 else content[: expected + expected % 2]]
    if form.coding in VIDEOS:
        return [b"".join(frames(content, 1, coded=False))]
    stream = STREAMS.get(form.coding)
    compressed = frames(content, many, coded=stream is not None)
    if stream is None:
        return compressed
    strip, told = stream
    parts = [strip(part) for part in compressed]
    # Before a decoder takes the memory that a stream asks for, or fails on what is no such image.
    for part in parts:
        rows, columns, channels, bits = told(part)
        if (rows, columns) != (form.rows, form.columns):
            raise UnreadableError("its compressed frames have another size than its header says")
        if channels != form.channels or bits > form.bits_allocated:
            raise UnreadableError("its compressed frames have other samples than its header says")
        if form.coding == "jpeg" and bits not in (8, 12):
            raise UnreadableError(f"{bits} bits a sample are not supported in JPEG")
    return parts

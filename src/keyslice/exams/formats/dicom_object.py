"""A DICOM object: what its header says of its samples and of where frames lie, and its data."""

from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from pydicom import Dataset

from keyslice.exams.formats.dicom_file import (
    HEADER_MOST,
    Vector,
    count,
    header,
    item,
    number,
    samples,
    text,
    vector,
)
from keyslice.exams.formats.dicom_form import Form, form_of, parts_of
from keyslice.exams.formats.dicom_order import Slice
from keyslice.exams.source import Reading, UnreadableError

TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "NumberOfFrames",
    "AcquisitionDate",
    "SeriesDate",
    "StudyDate",
    "Manufacturer",
    "BurnedInAnnotation",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "DoseGridScaling",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "GridFrameOffsetVector",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionNumber",
    "EchoTime",
    "RepetitionTime",
    "MagneticFieldStrength",
    "KVP",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
UNIT = 1e-2
"""By which the length of a direction, and the cosine between two, may be off."""


@dataclass(frozen=True)
class Object:
    """What is needed of a file.

    Args:
        dataset: elements of its header.
        form: of its samples.
        slices: its frames.
        parts: compressed frames, of JPEG streams without what decoding does not need; or, in one
            part, all samples as they lie there; or a video.
    """

    dataset: Dataset
    form: Form
    slices: tuple[Slice, ...]
    parts: list[bytes]

    def samples_of(self, one: Slice) -> memoryview:
        """Its bytes, to be compared with those of a slice in another file."""
        if len(self.parts) == len(self.slices):
            return memoryview(self.parts[one.frame])
        step = len(self.parts[0]) // len(self.slices)
        return memoryview(self.parts[0])[one.frame * step : (one.frame + 1) * step]

    @property
    def instance(self) -> tuple[str, Vector | None]:
        """What is the same for copies of one object. Some devices give all objects one UID."""
        return text(self.dataset, "SOPInstanceUID"), self.slices[0].position

    @property
    def localizer(self) -> bool:
        """Whether it only shows where slices of the series lie."""
        return "LOCALIZER" in text(self.dataset, "ImageType").upper().split("\\")


def load(stream: BinaryIO, file: int, before: int, reading: Reading) -> Object:
    """The object in a file.

    Args:
        stream: the file.
        file: its number.
        before: frames of the exam in files before it.
        reading: how to read.

    Raises:
        UnreadableError: it holds no image, of an unsupported kind, too large, or cut short.
        Exception: damaged.
    """
    dataset, inside = header(stream, TAGS, reading.limits.memory + HEADER_MOST)
    where = samples(inside)
    if where is None:
        raise UnreadableError("it holds no image, or ends before it")
    form = form_of(dataset, where)
    many = count(dataset, "NumberOfFrames", 1) or 1
    reading.check_size(before + many, form.rows, form.columns, form.sample_bytes((1.0, 0.0)))
    slices = _slices(dataset, file, many)
    pixel = max(form.sample_bytes(one.rescale) for one in slices)
    reading.check_size(before + many, form.rows, form.columns, pixel)
    content = inside.read() if where.length is None else inside.read(where.length)
    return Object(dataset, form, slices, parts_of(form, where, content, many))


def _slices(dataset: Dataset, file: int, many: int) -> tuple[Slice, ...]:
    """The frames; without functional groups they have all they tell in common, or an offset."""
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return tuple(_slice(dataset, file, frame) for frame in range(many))
    first = _slice(dataset, file, 0)
    offsets = vector(dataset, "GridFrameOffsetVector", many)
    if offsets is None or first.position is None or first.directions is None:
        return tuple(replace(first, frame=frame) for frame in range(many))
    normal = np.cross(first.directions[:3], first.directions[3:])
    return tuple(
        replace(first, frame=n, position=tuple(first.position + (offset - offsets[0]) * normal))
        for n, offset in enumerate(offsets)
    )


def _slice(dataset: Dataset, file: int, frame: int) -> Slice:
    """One frame, by its own functional groups, those shared, and the header, in this order."""
    groups = (
        item(dataset, "PerFrameFunctionalGroupsSequence", frame),
        item(dataset, "SharedFunctionalGroupsSequence"),
    )
    groups = tuple(group for group in groups if len(group))

    def told(sequence: str, keyword: str, length: int | None = None) -> Vector | None:
        found = (vector(item(group, sequence), keyword, length) for group in groups)
        return next((one for one in found if one), None) or vector(dataset, keyword, length)

    def one(sequence: str, keyword: str, plain: str = "") -> float | None:
        values = told(sequence, keyword) or (vector(dataset, plain) if plain else None)
        return values[0] if values else None

    slope = one("PixelValueTransformationSequence", "RescaleSlope")
    intercept = one("PixelValueTransformationSequence", "RescaleIntercept")
    if text(dataset, "Modality") == "RTDOSE":
        slope = number(dataset, "DoseGridScaling") or slope
    if slope == 0:
        raise UnreadableError("its header has no valid RescaleSlope")
    return Slice(
        file=file,
        frame=frame,
        instance=number(dataset, "InstanceNumber"),
        position=told("PlanePositionSequence", "ImagePositionPatient", 3),
        directions=_unit(told("PlaneOrientationSequence", "ImageOrientationPatient", 6)),
        pixel_spacing=told("PixelMeasuresSequence", "PixelSpacing", 2),
        thickness=one("PixelMeasuresSequence", "SpacingBetweenSlices")
        or one("PixelMeasuresSequence", "SliceThickness"),
        times=(
            one("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
            one("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
            one("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
            one("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
        ),
        rescale=(1.0 if slope is None else slope, intercept or 0.0),
    )


def _unit(directions: Vector | None) -> Vector | None:
    """Two unit vectors at a right angle; None where they are none."""
    if directions is None:
        return None
    pair = np.array(directions).reshape(2, 3)
    return directions if np.abs(pair @ pair.T - np.eye(2)).max() <= UNIT else None

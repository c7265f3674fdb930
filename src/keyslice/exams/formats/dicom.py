"""DICOM series: many files of a slice each, or one of many frames."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from keyslice.exams.codecs import dicom as codec
from keyslice.exams.codecs import raw
from keyslice.exams.codecs.dicom import quiet
from keyslice.exams.exam import Encoded, Exam, known_measure
from keyslice.exams.formats.dicom_file import (
    header,
    is_dicom,
    item,
    number,
    samples,
    text,
    vector,
)
from keyslice.exams.formats.dicom_form import DIFFERENCES, STREAMS, VIDEOS, Form
from keyslice.exams.formats.dicom_object import Object, load
from keyslice.exams.formats.dicom_order import Order, Slice, ordered
from keyslice.exams.formats.images import natural
from keyslice.exams.source import Reading, SourceFile, UnreadableError

__all__ = ["Series", "is_dicom", "read", "series"]

OWNER = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")
SERIES_TAGS = (
    *OWNER,
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "NumberOfFrames",
    "Rows",
    "Columns",
)
MODALITIES = re.compile(
    "BI|BMD|CR|CT|DG|DX|EPS|ES|GM|IO|IVOCT|IVUS|LS|MG|MR|NM|OAM|OCT|OP|OPM|OPT|OT|PT|PX|RF|RG|"
    "RTDOSE|RTIMAGE|SC|SEG|SM|TG|US|VA|XA|XC"
)
"""Codes that are kept."""
MANUFACTURERS = re.compile(
    r"\b(agfa|aloka|bk|bruker|butterfly|canon|carestream|clarius|elekta|esaote|fujifilm|ge|hitachi|"
    r"hologic|kodak|konica|marconi|mindray|neusoft|philips|picker|samsung|shimadzu|siemens|sonosite|"
    r"supersonic|toshiba|united|varian|zonare)\b"
)
"""Words of their names that are kept."""
DICOMDIR = "1.2.840.10008.1.3.10"
NO_IMAGES = {
    "SR": "a structured report",
    "KO": "a selection of key objects",
    "PR": "a presentation state",
    "RTSTRUCT": "outlines for radiotherapy",
    "RTPLAN": "a plan of radiotherapy",
    "REG": "a registration",
    "ECG": "a waveform",
    "DOC": "a document",
}
"""What objects of a modality are that hold none."""
BURNED_IN = {"YES": "yes", "NO": "no"}
MEASURES = {
    "slice_thickness": ("SliceThickness", "PixelMeasuresSequence", "SliceThickness"),
    "field_strength": ("MagneticFieldStrength", "", ""),
    "tube_voltage": ("KVP", "CTXRayDetailsSequence", "KVP"),
    "echo_time": ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    "repetition_time": (
        "RepetitionTime",
        "MRTimingAndRelatedParametersSequence",
        "RepetitionTime",
    ),
}
"""Facts, the elements they are in, and where these are in objects with functional groups."""


class Series(NamedTuple):
    """What an object belongs to. Its identifiers are for grouping only, and never stored."""

    uid: str
    """Of the exam: of the series or, of an object of many frames, of series and object."""
    series: str
    """SeriesInstanceUID, for a table to name it by; empty where there is none."""
    owner: str
    """Patient and study: a UID that two of them have is that of neither."""
    image: bool
    reason: str
    """Why it is none; else empty."""


def series(file: SourceFile) -> Series:
    """What the header of a DICOM file says that it belongs to.

    Raises:
        UnreadableError: it cannot be opened, or its header is damaged.
    """
    with quiet(), file.open() as stream:
        dataset, inside = header(stream, SERIES_TAGS)
        image = samples(inside) is not None and "Rows" in dataset and "Columns" in dataset
        instance, whole = text(dataset, "SOPInstanceUID"), text(dataset, "SeriesInstanceUID")
        alone = (number(dataset, "NumberOfFrames") or 1) > 1
        reason = "" if image else _no_image(dataset)
        owner = "\n".join(text(dataset, name) for name in OWNER)
    # What should hold an image, and does not, is of its series: reading that will refuse it.
    return Series(f"{whole}/{instance}" if alone else whole, whole, owner, not reason, reason)


def _no_image(dataset: Dataset) -> str:
    """What kind of object it is that holds no image; empty: it should hold one."""
    meta = getattr(dataset, "file_meta", Dataset())
    if DICOMDIR in (text(dataset, "SOPClassUID"), text(meta, "MediaStorageSOPClassUID")):
        return "a DICOMDIR: it lists files, and holds no image"
    if kind := NO_IMAGES.get(text(dataset, "Modality")):
        return f"{kind}: it holds no image"
    stored = UID(text(dataset, "SOPClassUID"))
    if stored.type == "SOP Class" and "Image" not in stored.name:
        return "an object of a class that holds no image"
    return ""


def read(files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read the files of one series, in any order, or an object of many frames.

    Slices of a volume are ordered along their normal, and they and what is in them lie as
    `exams.nifti` says, by the nearest axes, along the direction in which they were acquired. Slices
    of one position are ordered by their times where the header tells these. Without positions the
    order is by number, else by name. Localizers and repeated slices are left out. Samples are in
    units of the modality (such as Hounsfield's); MONOCHROME1 is inverted, and palettes and YBR
    become RGB.

    Raises:
        UnreadableError: of an unsupported kind, too large, not of one form, with several slices at
            a position, or text may be burned in where the setting asks for none.
        Exception: damaged or truncated; `readers.read` makes an UnreadableError of it.
    """
    named = sorted(files, key=lambda file: natural(file.name))
    with quiet():
        objects, facts = _of_one_form(_objects(named, reading))
        first = objects[0]
        facts |= _acquisition(objects)
        if reading.burned_in == "quarantine" and facts["burned_in"] != "no":
            raise UnreadableError("it does not say that no text is burned into its pixels")
        try:
            if first.form.coding in VIDEOS:
                order = Order(first.slices)
                frames, encoded = _video(first, reading)
            else:
                order = ordered([one for o in objects for one in o.slices], _same(objects))
                frames, encoded = _frames(objects, order)
            repeated = facts.pop("duplicate_slices", 0) + order.facts.get("duplicate_slices", 0)
            facts |= order.facts
            if repeated:
                facts["duplicate_slices"] = repeated
            frame_time = None
            if "slice_axis" not in facts:
                frame_time, variable = _frame_time(first.dataset)
                frame_time = order.frame_time or frame_time
                if variable:
                    facts["variable_rate"] = 1
            return Exam(
                frames=frames,
                spacing=order.spacing,
                frame_time=frame_time,
                facts=facts,
                modality=_modality(first.dataset),
                acquired=_acquired(first.dataset),
                encoded=encoded,
            )
        except ValueError as error:
            raise UnreadableError(str(error)) from None


def _objects(files: Sequence[SourceFile], reading: Reading) -> list[Object]:
    objects: list[Object] = []
    before = 0
    for number_, file in enumerate(files):
        try:
            with file.open() as stream:
                objects.append(load(stream, number_, before, reading))
        except UnreadableError as error:
            if len(files) == 1:
                raise
            # For the quarantine list: of hundreds of files this one is to be looked at.
            raise UnreadableError(f"of its {len(files)} files, {file.name}: {error}") from None
        before += len(objects[-1].slices)
    return objects


def _of_one_form(objects: Sequence[Object]) -> tuple[list[Object], dict[str, Any]]:
    """Without localizers and second copies of an object; how many slices those were."""
    facts: dict[str, Any] = {}
    kept = [one for one in objects if not one.localizer]
    if not kept:
        raise UnreadableError("all of its slices are localizers, which show where others lie")
    if localizers := len(objects) - len(kept):
        facts["localizers"] = localizers
    for difference, names in DIFFERENCES.items():
        kinds = {tuple(getattr(one.form, name) for name in names) for one in kept}
        if len(kinds) > 1:
            raise UnreadableError(f"its slices have {len(kinds)} {difference}")
    copies: dict[tuple[object, ...], list[Object]] = {}
    for one in kept:
        alike = copies.setdefault(one.instance if one.instance[0] else (id(one),), [])
        if all(one.parts != other.parts for other in alike):
            alike.append(one)
    single = [one for alike in copies.values() for one in alike]
    single.sort(key=lambda one: one.slices[0].file)
    if repeated := sum(len(o.slices) for o in kept) - sum(len(o.slices) for o in single):
        facts["duplicate_slices"] = repeated
    if len(single) > 1 and any(len(one.slices) > 1 for one in single):
        raise UnreadableError(f"{len(single)} objects, some of many frames, are no series")
    return single, facts


def _same(objects: Sequence[Object]) -> Callable[[Slice, Slice], bool]:
    by_file = {one.slices[0].file: one for one in objects}

    def same(one: Slice, other: Slice) -> bool:
        a, b = by_file[one.file], by_file[other.file]
        return one.rescale == other.rescale and a.samples_of(one) == b.samples_of(other)

    return same


def _frames(objects: Sequence[Object], order: Order) -> tuple[np.ndarray, Encoded | None]:
    """Decoded; and compressed, where the source has them so in a way that can be stripped."""
    by_file = {one.slices[0].file: one for one in objects}
    form = objects[0].form
    parameters = _parameters(form, order)
    colours = [] if form.palette is None else [form.palette[1]]
    if form.coding in STREAMS:
        parts = [by_file[one.file].parts[one.frame] for one in order.slices]
        encoded = Encoded("dicom", parameters, (*parts, *colours))
        return codec.decode(encoded.parameters, encoded.parts), encoded
    palette = np.frombuffer(colours[0], np.uint8).reshape(-1, 3) if colours else None

    def decoded() -> Iterator[np.ndarray]:
        for one in order.slices:
            source = by_file[one.file]
            many = len(source.slices)
            if many == 1:
                # Given back at once, so that a volume is in memory little more than once.
                yield codec.frame(parameters, source.parts.pop())
            elif len(source.parts) == many:
                yield codec.frame(parameters, source.parts[one.frame])
            else:
                yield codec.frame(parameters, source.parts[0], one.frame, many)

    volume = codec.assemble(parameters, decoded(), len(order.slices), palette)
    frames = codec.rescaled(volume, parameters["rescale"])
    if frames.dtype != np.float32 or volume.dtype.kind == "f" or volume.itemsize > 2:
        return frames, None
    return frames, _as_stored(volume, parameters["rescale"])


def _as_stored(volume: np.ndarray, pairs: Sequence[Sequence[float]]) -> Encoded:
    """Whole numbers that are scaled to real ones: before, they take half the space."""
    if len(pairs) == 1:
        slope, intercept = pairs[0]
        return raw.encode(volume, slope=slope, intercept=intercept)
    stored = raw.encode(volume)
    parameters = {"stored": dict(stored.parameters), "rescale": pairs}
    return Encoded("dicom", parameters, stored.parts)


def _parameters(form: Form, order: Order) -> dict[str, Any]:
    """What `codecs.dicom` needs to know: numbers, and words checked against lists."""
    pairs = [list(one.rescale) for one in order.slices]
    if form.channels == 3 or form.palette:
        pairs = [[*codec.SAME]]
    return {
        "syntax": form.syntax,
        "rows": form.rows,
        "columns": form.columns,
        "photometric": form.photometric,
        "samples": form.channels,
        "planar": form.planar,
        "keyword": form.keyword,
        "vr": form.vr,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.high_bit + 1,
        "shift": form.high_bit + 1 - form.bits_stored,
        "signed": form.signed,
        "inverted": form.bits_stored if form.photometric == "MONOCHROME1" else None,
        "palette": form.palette and form.palette[0],
        "turn": [*order.turn],
        "rescale": pairs[:1] if all(pair == pairs[0] for pair in pairs) else pairs,
    }


def _video(source: Object, reading: Reading) -> tuple[np.ndarray, Encoded | None]:
    from keyslice.exams.formats.video import frames_of_stream  # FFmpeg: only where there is one

    return frames_of_stream(source.parts[0], reading)


def _acquisition(objects: Sequence[Object]) -> dict[str, str | float]:
    """Facts of the whole series; measures are those of the first object."""
    first = objects[0]
    told = {
        BURNED_IN.get(text(one.dataset, "BurnedInAnnotation").upper(), "unknown") for one in objects
    }
    facts: dict[str, str | float] = {
        "burned_in": next((word for word in ("yes", "unknown") if word in told), "no"),
        "source_dtype": _dtype(first.form),
    }
    if first.form.coding:
        facts["coding"] = first.form.coding
    shared = item(first.dataset, "SharedFunctionalGroupsSequence")
    own = item(first.dataset, "PerFrameFunctionalGroupsSequence")
    for fact, (plain, sequence, keyword) in MEASURES.items():
        groups = [item(group, sequence) for group in (own, shared) if sequence]
        values = [number(group, keyword) for group in groups] + [number(first.dataset, plain)]
        value = known_measure(next((value for value in values if value), 0.0))
        if value is not None:
            facts[fact] = value
    if maker := text(first.dataset, "Manufacturer").lower():
        known = MANUFACTURERS.search(maker)
        facts["manufacturer"] = known.group() if known else "other"
    return facts


def _dtype(form: Form) -> str:
    if form.palette:
        return "palette"
    if form.channels == 3 and form.bits_allocated == 8:
        return "rgb"
    if form.keyword != "PixelData":
        return f"float{form.bits_allocated}"
    return (
        "bool" if form.bits_allocated == 1 else f"{'u' * (1 - form.signed)}int{form.bits_allocated}"
    )


def _frame_time(dataset: Dataset) -> tuple[float | None, bool]:
    """Milliseconds from frame to frame, and whether that varies."""
    steps = (vector(dataset, "FrameTimeVector") or ())[1:]
    if any(steps):
        return known_measure(float(np.median(steps))), len(set(steps)) > 1
    step = known_measure(number(dataset, "FrameTime") or 0.0)
    rate = number(dataset, "CineRate") or number(dataset, "RecommendedDisplayFrameRate")
    return step or known_measure(1000.0 / rate if rate else 0.0), False


def _modality(dataset: Dataset) -> str:
    code = text(dataset, "Modality").upper()
    return code if MODALITIES.fullmatch(code) else ""


def _acquired(dataset: Dataset) -> str:
    """The first valid date that the header has."""
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        digits = text(dataset, keyword).replace(".", "")
        if re.fullmatch("[0-9]{8}", digits):
            try:
                return date.fromisoformat(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}").isoformat()
            except ValueError:
                continue
    return ""

import contextlib
import copy
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import gdcm
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset, config, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_rescale

from keyslice.config import Limits
from keyslice.exams import container
from keyslice.exams.exam import Exam, exam_id
from keyslice.exams.formats import dicom, nifti
from keyslice.exams.source import Reading, SourceFile, UnreadableError

NAME = "Doe^Planted"
AXIAL = (1, 0, 0, 0, 1, 0)
DATA = Path(pydicom.__file__).parent / "data"


def _file(path: Path) -> SourceFile:
    return SourceFile(path.name, path, path.stat().st_size, 0)


def _read(paths: Sequence[Path] | Path, **reading: Any) -> Exam:
    paths = [paths] if isinstance(paths, Path) else paths
    exam = dicom.read([_file(path) for path in paths], Reading(**reading))
    stored = container.dumps(exam)
    again = container.load(io.BytesIO(stored))
    assert exam_id(again.frames) == exam_id(exam.frames)
    return exam


def _dataset(samples: np.ndarray, number: int = 1, **elements: Any) -> Dataset:
    """One slice or, with (T,H,W) or (T,H,W,3), an object of several frames; uncompressed."""
    colour = samples.shape[-1] == 3 and samples.ndim > 2
    space = samples.shape[:-1] if colour else samples.shape
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.CTImageStorage
    dataset.SOPInstanceUID = f"1.2.3.{number}"
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.Modality = "CT"
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = space[-2:]
    if len(space) == 3:
        dataset.NumberOfFrames = space[0]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * samples.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(samples.dtype.kind == "i")
    dataset.PixelData = samples.tobytes() + bytes(samples.nbytes % 2)
    dataset["PixelData"].VR = "OW" if samples.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _save(dataset: Dataset, path: Path, **options: Any) -> Path:
    dataset.save_as(path, enforce_file_format=True, **options)
    return path


def _series(
    folder: Path,
    volume: np.ndarray,
    *,
    directions: Sequence[float] = AXIAL,
    step: float = 2.0,
    change: Callable[[Dataset, int], None] | None = None,
) -> list[Path]:
    """Slices of a volume, the first of them at the origin, with names in another order."""
    normal = np.cross(directions[:3], directions[3:])
    paths = []
    for n, samples in enumerate(volume):
        dataset = _dataset(
            samples,
            n + 1,
            ImageOrientationPatient=list(directions),
            ImagePositionPatient=[float(f"{x:.10g}") for x in normal * step * n],
            PixelSpacing=[0.5, 0.75],
        )
        if change:
            change(dataset, n)
        paths.append(_save(dataset, folder / f"{(n * 7) % 10}_{n}.dcm"))
    return paths


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 3000, (5, 6, 7)).astype(np.int16)


# Files that pydicom comes with.

NO_DECODER = {"JPEG-lossy.dcm", "JPGExtended.dcm"}
"""12 bits in JPEG: pydicom has none for it here, GDCM decodes them."""
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "another size than its header says",
    "MR_truncated.dcm": "ends before its samples do",
    "SC_rgb_rle_32bit.dcm": "4294967295 do not fit",
    "SC_rgb_rle_32bit_2frame.dcm": "4294967295 do not fit",
    "badVR.dcm": "no valid NumberOfFrames",
    "6293": "localizers",
    "6924": "localizers",
}
NO_DICOM = {".md", ".txt", ".icc", ".dump", ".gz", ".py", ".json", ".pyc"}
NO_START = {"no_meta.dcm", "ExplVR_BigEndNoMeta.dcm", "README"}
"""The first begins with a stray byte, the second is big endian without saying so."""


def _bundled() -> list[Path]:
    return [
        path
        for path in sorted(DATA.rglob("*"))
        if path.is_file() and path.suffix not in NO_DICOM and path.name not in NO_START
    ]


def _expected(path: Path) -> np.ndarray:
    """What pydicom makes of the file, in the units of the modality and in RGB."""
    dataset = pydicom.dcmread(path, force=True)
    samples = dataset.pixel_array
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        samples = (1 << dataset.BitsStored) - 1 - samples
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return (apply_color_lut(samples, dataset) >> 8).astype(np.uint8)
    if dataset.get("Modality") == "RTDOSE":
        return (samples * float(dataset.DoseGridScaling)).astype(np.float32)
    return apply_rescale(samples, dataset) if "RescaleSlope" in dataset else samples


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", _bundled(), ids=lambda path: path.name)
def test_each_file_of_pydicoms_is_read_or_refused_for_a_true_reason(path: Path):
    assert dicom.is_dicom(path.read_bytes()[:260])
    dataset = pydicom.dcmread(path, force=True)
    if not {"PixelData", "Rows", "Columns"} <= {*dataset.dir()}:
        found = dicom.series(_file(path))
        assert found.image != ("holds no image" in found.reason)
        if found.image:  # of no kind that holds none
            with pytest.raises(UnreadableError):
                _read(path)
        return
    assert dicom.series(_file(path)).image
    if path.name in REFUSED:
        with pytest.raises(UnreadableError, match=REFUSED[path.name]):
            _read(path)
        return
    exam = _read(path)
    if path.name in NO_DECODER:
        # Values that pydicom's own tests expect of a decoder that has no part in ours.
        points = exam.frames[0][[420, 230], [140, 120]].tolist()
        assert points == [244, 95]
        return
    expected = _expected(path)
    expected = expected.reshape(exam.frames.shape).astype(exam.frames.dtype)
    if exam.plane == "sagittal" or exam.plane == "coronal":
        assert sorted(exam.frames.ravel()) == sorted(expected.ravel())
    else:
        assert (exam.frames == expected).all()


@pytest.mark.parametrize("name", sorted(NO_START - {"README"}))
def test_what_does_not_start_as_dicom_is_none(name: str):
    path = DATA / "test_files" / name
    assert not dicom.is_dicom(path.read_bytes()[:260])


def test_other_files_are_no_dicom():
    starts = [b"", b"\0" * 300, b"\x89PNG\r\n\x1a\n" * 30, b"PK\x03\x04" * 60, b"file,label\n" * 30]
    assert not any(map(dicom.is_dicom, starts))


# A series and its exam.


def test_an_object_of_many_frames_is_an_exam_of_its_own():
    path = Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
    found = dicom.series(_file(path))
    dataset = pydicom.dcmread(path)
    assert found.uid == f"{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}"
    assert found.series == dataset.SeriesInstanceUID
    exam = _read(path)
    assert exam.frames.shape == (30, 240, 320, 3)
    assert exam.frame_time == pytest.approx(33.333)
    assert exam.modality == "US"


def test_files_of_a_series_belong_together(tmp_path: Path, volume: np.ndarray):
    (found,) = {dicom.series(_file(path)) for path in _series(tmp_path, volume)}
    assert (found.uid, found.series, found.image, found.reason) == ("1.2.3", "1.2.3", True, "")


def test_of_a_series_the_file_that_cannot_be_read_is_named(tmp_path: Path, volume: np.ndarray):
    paths = _series(tmp_path, volume)
    paths[3].write_bytes(paths[3].read_bytes()[:-10])
    named = rf"^of its {len(paths)} files, {paths[3].name}: it ends before its samples do$"
    with pytest.raises(UnreadableError, match=named):
        _read(paths)


def test_slices_come_in_the_order_of_their_positions(tmp_path: Path, volume: np.ndarray):
    def change(dataset: Dataset, n: int) -> None:
        dataset.InstanceNumber = 9 - n

    paths = _series(tmp_path, volume, change=change)
    for order in itertools.islice(itertools.permutations(paths), 0, 120, 17):
        exam = _read(order)
        assert (exam.frames == volume).all()
        assert exam.spacing == (2.0, 0.5, 0.75)
        assert exam.plane == "axial"
        assert not exam.reversed


@pytest.mark.parametrize("numbered", [True, False])
def test_without_positions_numbers_or_else_names_tell_the_order(
    tmp_path: Path, volume: np.ndarray, numbered: bool
):
    paths = []
    for n, samples in enumerate(volume):
        dataset = _dataset(samples, n + 1)
        name = 12 - n if numbered else n + 7
        if not numbered:
            del dataset.InstanceNumber
        paths.append(_save(dataset, tmp_path / f"IM{name}"))
    exam = _read(paths[::-1])
    assert (exam.frames == volume).all()
    assert (exam.plane, exam.spacing) == (None, None)


ROTATIONS = [
    directions
    for r, c in itertools.permutations(range(3), 2)
    for a, b in itertools.product((1.0, -1.0), repeat=2)
    for directions in [(*(a * np.eye(3)[r]), *(b * np.eye(3)[c]))]
]


@pytest.mark.parametrize("directions", ROTATIONS, ids=str)
@pytest.mark.parametrize("step", [2.0, -2.0])
def test_dicom_and_nifti_of_one_volume_are_one_exam(
    tmp_path: Path, volume: np.ndarray, directions: tuple[float, ...], step: float
):
    exam = _read(_series(tmp_path, volume, directions=directions, step=step))
    row, column = np.array(directions[:3]), np.array(directions[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack(
        [row * 0.75, column * 0.5, np.cross(row, column) * step], axis=1
    ) * np.array([[-1], [-1], [1]])
    nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), affine), tmp_path / "e.nii")
    other = nifti.read([_file(tmp_path / "e.nii")], Reading())
    assert exam_id(exam.frames) == exam_id(other.frames)
    assert exam.spacing == other.spacing
    assert exam.plane == other.plane
    assert not exam.reversed


def test_oblique_slices_lie_by_the_nearest_axes(tmp_path: Path, volume: np.ndarray):
    angle = np.deg2rad(20)
    directions = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle)))
    exam = _read(_series(tmp_path, volume, directions=directions))
    assert exam.plane == "axial"
    assert (exam.frames == volume).all()


def test_localizers_are_left_out(tmp_path: Path, volume: np.ndarray):
    paths = _series(tmp_path, volume)
    scout = _dataset(np.zeros((9, 9), np.int16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    exam = _read([*paths, _save(scout, tmp_path / "scout.dcm")])
    assert (exam.frames == volume).all()
    assert exam.facts["localizers"] == 1


@pytest.mark.parametrize("same_object", [True, False])
def test_repeated_slices_are_left_out(tmp_path: Path, volume: np.ndarray, same_object: bool):
    paths = _series(tmp_path, volume)
    for n, path in enumerate(paths[:2]):
        dataset = pydicom.dcmread(path)
        if not same_object:
            dataset.SOPInstanceUID = f"9.9.{n}"
        paths.append(_save(dataset, tmp_path / f"again_{n}.dcm"))
    exam = _read(paths)
    assert (exam.frames == volume).all()
    assert exam.facts["duplicate_slices"] == 2


def test_slices_with_one_identifier_by_mistake_are_all_kept(tmp_path: Path, volume: np.ndarray):
    def change(dataset: Dataset, n: int) -> None:
        dataset.SOPInstanceUID = "1.1"

    assert (_read(_series(tmp_path, volume, change=change)).frames == volume).all()


def test_missing_slices_are_told(tmp_path: Path):
    volume = np.arange(8 * 4, dtype=np.int16).reshape(8, 2, 2)
    paths = _series(tmp_path, volume)
    exam = _read([path for n, path in enumerate(paths) if n not in (2, 5, 6)])
    assert exam.facts["missing_slices"] == 3
    assert exam.spacing == (2.0, 0.5, 0.75)
    assert "missing_slices" not in _read(paths).facts


def _second_volume(dataset: Dataset, n: int) -> None:
    dataset.ImagePositionPatient = [0, 0, n // 2]


def _turned(dataset: Dataset, n: int) -> None:
    if n == 2:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _smaller(dataset: Dataset, n: int) -> None:
    if n == 2:
        dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def _unsigned(dataset: Dataset, n: int) -> None:
    if n == 2:
        dataset.PixelRepresentation = 0


def _white_is_zero(dataset: Dataset, n: int) -> None:
    if n == 2:
        dataset.PhotometricInterpretation = "MONOCHROME1"


def _nowhere(dataset: Dataset, n: int) -> None:
    if n == 2:
        del dataset.ImagePositionPatient


def _scouts(dataset: Dataset, n: int) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_second_volume, "2 different slices at one position"),
        (_turned, "more than one orientation"),
        (_smaller, "2 sizes"),
        (_unsigned, "2 types of samples"),
        (_white_is_zero, "2 kinds of colour"),
        (_nowhere, "others do not"),
        (_scouts, "localizers"),
    ],
)
def test_a_series_that_is_no_one_volume_is_refused(
    tmp_path: Path, volume: np.ndarray, change: Callable[[Dataset, int], None], reason: str
):
    with pytest.raises(UnreadableError, match=reason):
        _read(_series(tmp_path, volume, change=change))


@pytest.mark.parametrize(
    "keyword", ["TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "EchoTime"]
)
def test_slices_of_one_position_follow_in_time(tmp_path: Path, volume: np.ndarray, keyword: str):
    def change(dataset: Dataset, n: int) -> None:
        dataset.ImagePositionPatient = [0, 0, 0]
        dataset.InstanceNumber = 10 - n
        setattr(dataset, keyword, 40 * n + 1)

    exam = _read(_series(tmp_path, volume, change=change))
    assert (exam.frames == volume).all()
    assert exam.frame_time == (40 if keyword == "TriggerTime" else None)
    assert exam.plane is None


# Objects of many frames.


def _enhanced(volume: np.ndarray, step: float = 2.0) -> Dataset:
    dataset = _dataset(volume)
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.75]
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(AXIAL)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for n in range(len(volume)):
        own = Dataset()
        own.PlanePositionSequence = [Dataset()]
        own.PlanePositionSequence[0].ImagePositionPatient = [0, 0, step * n]
        own.PixelValueTransformationSequence = [Dataset()]
        own.PixelValueTransformationSequence[0].RescaleSlope = 1 + n % 2
        own.PixelValueTransformationSequence[0].RescaleIntercept = -5
        own.MREchoSequence = [Dataset()]
        own.MREchoSequence[0].EffectiveEchoTime = 7.5
        dataset.PerFrameFunctionalGroupsSequence.append(own)
    return dataset


@pytest.mark.parametrize("step", [2.0, -2.0])
def test_an_enhanced_object_is_a_volume_whose_frames_may_run_backwards(
    tmp_path: Path, volume: np.ndarray, step: float
):
    exam = _read(_save(_enhanced(volume, step), tmp_path / "e.dcm"))
    slopes = (1 + np.arange(len(volume)) % 2)[:, None, None]
    expected = (volume * slopes - 5)[:: int(np.sign(step))]
    assert (exam.frames == expected).all()
    assert exam.frames.dtype == np.int16
    assert exam.spacing == (2.0, 0.5, 0.75)
    assert exam.reversed == (step < 0)
    assert exam.facts["echo_time"] == 7.5


def test_frames_of_an_enhanced_object_may_lie_in_any_order(tmp_path: Path, volume: np.ndarray):
    dataset = _enhanced(volume)
    order = [3, 0, 4, 1, 2]
    groups = [*dataset.PerFrameFunctionalGroupsSequence]
    dataset.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
    dataset.PixelData = volume[order].tobytes()
    straight = _read(_save(_enhanced(volume), tmp_path / "a.dcm"))
    assert (_read(_save(dataset, tmp_path / "b.dcm")).frames == straight.frames).all()


@pytest.mark.parametrize(
    ("elements", "time", "variable"),
    [
        ({"FrameTime": 40}, 40.0, False),
        ({"FrameTimeVector": [0, 30, 50, 50, 70]}, 50.0, True),
        ({"FrameTimeVector": [0, 30, 30, 30, 30]}, 30.0, False),
        ({"CineRate": 25}, 40.0, False),
        ({"RecommendedDisplayFrameRate": 50}, 20.0, False),
        ({"FrameTime": 0}, None, False),
        ({}, None, False),
    ],
)
def test_the_time_between_frames_is_read(
    tmp_path: Path, elements: dict[str, Any], time: float | None, variable: bool
):
    frames = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    exam = _read(_save(_dataset(frames, **elements), tmp_path / "e.dcm"))
    assert (exam.frames == frames).all()
    assert exam.frame_time == time
    assert ("variable_rate" in exam.facts) == variable


def test_two_objects_of_many_frames_are_no_series(tmp_path: Path, volume: np.ndarray):
    paths = [_save(_dataset(volume + n, n + 1), tmp_path / f"{n}.dcm") for n in range(2)]
    with pytest.raises(UnreadableError, match="no series"):
        _read(paths)


# Samples.


@pytest.mark.parametrize(
    ("dtype", "values", "slope", "intercept", "kept"),
    [
        ("uint8", [0, 255], None, None, "uint8"),
        ("uint8", [0, 255], 1, 0, "uint8"),
        ("uint8", [0, 255], 1, -1, "int16"),
        ("int8", [-128, 127], None, None, "int16"),
        ("uint16", [0, 4095], 1, -1024, "int16"),
        ("uint16", [1024, 33000], 1, -1024, "int16"),
        ("uint16", [0, 65535], None, None, "float32"),
        ("uint16", [0, 65535], 1, -1024, "float32"),
        ("uint16", [0, 65535], 1, -32768, "int16"),
        ("int16", [-1000, 1000], -2, 7, "int16"),
        ("int16", [-1000, 1000], 0.1, 0.5, "float32"),
        ("uint32", [0, 2**24], None, None, "float32"),
        ("int32", [-70000, 70000], 1, 0, "float32"),
    ],
)
def test_samples_are_rescaled_without_loss(
    tmp_path: Path,
    dtype: str,
    values: list[int],
    slope: float | None,
    intercept: float | None,
    kept: str,
):
    dataset = _dataset(np.array([values], dtype))
    if slope is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    expected = np.array(values, np.float64) * (slope or 1) + (intercept or 0)
    assert exam.frames.dtype == kept
    assert (exam.frames.ravel() == expected.astype(kept)).all()


def test_each_slice_has_its_own_rescaling(tmp_path: Path, volume: np.ndarray):
    def change(dataset: Dataset, n: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + n, 3

    exam = _read(_series(tmp_path, volume, change=change))
    slopes = (0.5 + np.arange(5))[:, None, None]
    assert (exam.frames == (volume * slopes + 3).astype(np.float32)).all()


@pytest.mark.parametrize("each", [0.0, 0.01])
def test_scaled_slices_take_less_space_than_in_their_files(tmp_path: Path, each: float):
    noise = np.random.default_rng(0).integers(0, 300, (5, 64, 64)).astype(np.int16)

    def change(dataset: Dataset, n: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1.37 + each * n, 0

    exam = _read(_series(tmp_path, noise, change=change))
    assert exam.frames.dtype == np.float32
    assert len(container.dumps(exam)) < 0.8 * noise.nbytes


def test_a_rescaling_that_leaves_nothing_is_refused(tmp_path: Path):
    dataset = _dataset(np.zeros((2, 2), np.int16), RescaleSlope=0)
    with pytest.raises(UnreadableError, match="RescaleSlope"):
        _read(_save(dataset, tmp_path / "e.dcm"))


@pytest.mark.parametrize(
    ("dtype", "stored", "values", "inverted"),
    [
        ("uint8", 8, [0, 200], [255, 55]),
        ("uint16", 12, [0, 4095, 1000], [4095, 0, 3095]),
        ("int16", 12, [-2048, 2047, 0], [2047, -2048, -1]),
    ],
)
def test_monochrome1_is_inverted_within_the_stored_bits(
    tmp_path: Path, dtype: str, stored: int, values: list[int], inverted: list[int]
):
    dataset = _dataset(np.array([values], dtype), PhotometricInterpretation="MONOCHROME1")
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    assert exam.frames.ravel().tolist() == inverted


@pytest.mark.parametrize("syntax", [None, uid.RLELossless])
@pytest.mark.parametrize(("dtype", "expected"), [("uint16", [0, 4095, 5]), ("int16", [0, -1, 5])])
def test_what_lies_in_unused_high_bits_is_masked(
    tmp_path: Path, syntax: uid.UID | None, dtype: str, expected: list[int]
):
    samples = np.array([[0, 4095, 5]], np.uint16) | 0x8000
    dataset = _dataset(samples.view(dtype))
    if syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = 12, 11
    assert _read(_save(dataset, tmp_path / "e.dcm")).frames.ravel().tolist() == expected


def test_samples_shifted_up_are_shifted_down(tmp_path: Path):
    samples = np.array([[0, 4095, 5]], np.uint16)
    dataset = _dataset(samples << 4 | 3, BitsStored=12, HighBit=15)
    assert _read(_save(dataset, tmp_path / "e.dcm")).frames.ravel().tolist() == [0, 4095, 5]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_rgb(tmp_path: Path, bits: int):
    dataset = _dataset(np.array([[0, 10, 11, 12, 99]], np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for n, colour in enumerate(("Red", "Green", "Blue")):
        lut = np.array([n, 100 + n, 255], np.uint8)
        data = lut.tobytes() + b"\0" if bits == 8 else (lut.astype("<u2") * 257).tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [3, 10, bits])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", data)
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    first, second, last = [0, 1, 2], [100, 101, 102], [255] * 3
    assert exam.frames.tolist() == [[[first, first, second, last, last]]]


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_is_read_whatever_its_planes(tmp_path: Path, planar: int):
    colour = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3), dtype=np.uint8)
    dataset = _dataset(colour, PlanarConfiguration=planar)
    if planar:
        dataset.PixelData = colour.transpose(0, 3, 1, 2).tobytes()
    assert (_read(_save(dataset, tmp_path / "e.dcm")).frames == colour).all()


def test_ybr_becomes_rgb(tmp_path: Path):
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107], [255, 128, 128]]], np.uint8)
    dataset = _dataset(ybr, PhotometricInterpretation="YBR_FULL")
    frames = _read(_save(dataset, tmp_path / "e.dcm")).frames
    expected = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    assert np.abs(frames[0, 0] - expected.astype(int)).max() <= 2


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ],
)
def test_every_uncompressed_syntax_is_read(tmp_path: Path, volume: np.ndarray, syntax: uid.UID):
    dataset = _dataset(volume)
    little = syntax != uid.ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    if not little:
        dataset.PixelData = volume.astype(">i2").tobytes()
    path = tmp_path / "e.dcm"
    implicit = syntax == uid.ImplicitVRLittleEndian
    pydicom.dcmwrite(
        path, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=True
    )
    exam = _read(path)
    assert (exam.frames == volume).all()
    assert exam.encoded is None


def test_a_file_without_preamble_is_read(tmp_path: Path, volume: np.ndarray):
    dataset = _dataset(volume)
    del dataset.file_meta
    pydicom.dcmwrite(tmp_path / "e", dataset, implicit_vr=True, little_endian=True)
    assert dicom.is_dicom((tmp_path / "e").read_bytes()[:260])
    assert (_read(tmp_path / "e").frames == volume).all()


# Compressed samples.


def _smooth(shape: tuple[int, ...], dtype: str, top: int) -> np.ndarray:
    grid = np.indices(shape).sum(axis=0)
    noise = np.random.default_rng(0).integers(0, 3, shape)
    return ((grid * 7) % (top - 3) + noise).astype(dtype)


LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: uid.UID, dtype: str):
    frames = _smooth((3, 32, 48), dtype, 200) - (100 if dtype == "int16" else 0)
    frames = frames.astype(dtype)
    dataset = _dataset(frames, RescaleSlope=1, RescaleIntercept=-7)
    dataset.compress(syntax, generate_instance_uid=False)
    path = _save(dataset, tmp_path / "e.dcm")
    exam = _read(path)
    assert (exam.frames == frames.astype(int) - 7).all()
    assert (exam.encoded is None) == (syntax == uid.RLELossless)
    assert len(container.dumps(exam)) < 1.2 * path.stat().st_size


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_lossless_compression_of_colour_changes_nothing(tmp_path: Path, syntax: uid.UID):
    frames = _smooth((2, 32, 48, 3), "uint8", 200)
    dataset = _dataset(frames)
    dataset.compress(syntax, generate_instance_uid=False)
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    assert (exam.frames == frames).all()


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_a_compressed_palette_becomes_rgb(tmp_path: Path, syntax: uid.UID):
    frames = _smooth((2, 32, 48), "uint8", 200)
    dataset = _dataset(frames, PhotometricInterpretation="PALETTE COLOR")
    lut = np.arange(256, dtype="<u2")
    for n, colour in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        data = ((lut + n) % 256 * 256).astype("<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", data)
    dataset.compress(syntax, generate_instance_uid=False)
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    expected = (frames[..., None].astype(int) + np.arange(3)) % 256
    assert (exam.frames == expected).all()


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_a_compressed_series_is_turned_and_ordered_as_an_uncompressed_one(
    tmp_path: Path, syntax: uid.UID
):
    volume = _smooth((5, 32, 48), "int16", 1000)
    directions = (0, 0, 1, 0, 1, 0)
    plain = _read(_series(tmp_path, volume, directions=directions))
    folder = tmp_path / "compressed"
    folder.mkdir()

    def change(dataset: Dataset, n: int) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    exam = _read(_series(folder, volume, directions=directions, change=change))
    assert exam_id(exam.frames) == exam_id(plain.frames)
    assert exam.plane == "sagittal"


def _transcoded(path: Path, syntax: int, to: Path) -> Path:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(to))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return to


@pytest.mark.parametrize(
    "syntax",
    [
        gdcm.TransferSyntax.JPEGLosslessProcess14,
        gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        gdcm.TransferSyntax.JPEGLSLossless,
        gdcm.TransferSyntax.JPEG2000Lossless,
        gdcm.TransferSyntax.RLELossless,
    ],
)
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
def test_what_another_encoder_compressed_is_the_same(tmp_path: Path, syntax: int, name: str):
    path = Path(str(get_testdata_file(name, download=False)))
    exam = _read(_transcoded(path, syntax, tmp_path / "e.dcm"))
    assert exam_id(exam.frames) == exam_id(_read(path).frames)


def _jpeg_clip(folder: Path, change: Callable[[list[bytes]], bytes]) -> Path:
    """The ultrasound clip with its compressed frames put together anew."""
    dataset = pydicom.dcmread(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
    frames = [*generate_frames(dataset.PixelData, number_of_frames=30)]
    dataset.PixelData = change(frames)
    dataset["PixelData"].is_undefined_length = True
    return _save(dataset, folder / "e.dcm")


@pytest.mark.parametrize(("fragments", "table"), [(1, True), (1, False), (3, True), (3, False)])
def test_frames_are_found_in_any_number_of_fragments(tmp_path: Path, fragments: int, table: bool):
    path = _jpeg_clip(
        tmp_path, lambda frames: encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    )
    original = Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
    assert exam_id(_read(path).frames) == exam_id(_read(original).frames)


def test_frames_are_found_by_an_extended_offset_table(tmp_path: Path):
    path = _jpeg_clip(tmp_path, encapsulate)
    dataset = pydicom.dcmread(path)
    frames = [*generate_frames(dataset.PixelData, number_of_frames=30)]
    (
        dataset.PixelData,
        dataset.ExtendedOffsetTable,
        dataset.ExtendedOffsetTableLengths,
    ) = encapsulate_extended(frames)
    before = exam_id(_read(path).frames)
    assert exam_id(_read(_save(dataset, path)).frames) == before


def test_a_missing_end_mark_does_no_harm_but_a_missing_end_does(tmp_path: Path):
    path = _jpeg_clip(tmp_path, encapsulate)
    whole = _read(path)
    content = path.read_bytes()
    end = content.rindex(b"\xfe\xff\xdd\xe0")
    path.write_bytes(content[:end])
    assert exam_id(_read(path).frames) == exam_id(whole.frames)
    path.write_bytes(content[: end - 100])
    with pytest.raises(UnreadableError, match="ends before"):
        _read(path)


@pytest.mark.parametrize("kept", [29, 31])
def test_another_number_of_frames_than_the_header_says_is_refused(tmp_path: Path, kept: int):
    path = _jpeg_clip(tmp_path, lambda frames: encapsulate((frames * 2)[:kept]))
    with pytest.raises(UnreadableError, match=f"{kept} compressed frames; its header says 30"):
        _read(path)


def test_a_frame_larger_than_the_header_says_is_refused_before_it_is_decoded(tmp_path: Path):
    buffer = io.BytesIO()
    Image.new("L", (3000, 3000)).save(buffer, "JPEG")
    dataset = _dataset(np.zeros((8, 8), np.uint8))
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableError, match="another size"):
        _read(_save(dataset, tmp_path / "e.dcm"))


def test_a_deflated_bomb_is_refused(tmp_path: Path):
    dataset = _dataset(np.zeros((100, 512, 512), np.uint8))
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    path = _save(dataset, tmp_path / "e.dcm")
    assert path.stat().st_size < 100_000
    with pytest.raises(UnreadableError, match="memory"):
        _read(path, limits=Limits(memory=2**20))


def test_more_than_the_limits_allow_is_refused_before_it_is_read(
    tmp_path: Path, volume: np.ndarray
):
    paths = _series(tmp_path, volume)
    for limits, setting in (
        (Limits(frames=4), "limits.frames"),
        (Limits(pixels=41), "limits.pixels"),
        (Limits(memory=5 * 6 * 7 * 2 - 1), "limits.memory"),
    ):
        with pytest.raises(UnreadableError, match=setting):
            _read(paths, limits=limits)
    assert _read(paths, limits=Limits(frames=5, pixels=42, memory=5 * 6 * 7 * 2))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PhotometricInterpretation": "HSV"}, "colours"),
        ({"SamplesPerPixel": 3}, "3 samples a pixel"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "12 bits"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 60000, "Columns": 60000}, "limits.pixels"),
        ({"Rows": 100}, "ends before"),
    ],
)
def test_an_unsupported_kind_is_refused_in_words(
    tmp_path: Path, elements: dict[str, Any], reason: str
):
    dataset = _dataset(np.zeros((4, 4), np.uint16), **elements)
    with pytest.raises(UnreadableError, match=reason):
        _read(_save(dataset, tmp_path / "e.dcm"))


@pytest.mark.parametrize("told", [uid.JPEGBaseline8Bit, uid.UID("1.2.840.10008.1.2.4.999")])
def test_a_compression_that_is_not_there_or_not_known_is_refused(tmp_path: Path, told: uid.UID):
    path = _save(_dataset(np.zeros((4, 4), np.uint8)), tmp_path / "e.dcm")
    content = path.read_bytes()
    plain = uid.ExplicitVRLittleEndian.encode() + b"\0"
    fill = told.encode() + b"\0" * (len(told) % 2)
    place = content.index(plain)
    content = content[: place - 2] + len(fill).to_bytes(2, "little") + fill + content[place + 20 :]
    length = int.from_bytes(content[140:144], "little") + len(fill) - 20
    path.write_bytes(content[:140] + length.to_bytes(4, "little") + content[144:])
    with pytest.raises(UnreadableError, match="compress"):
        _read(path)


@pytest.mark.parametrize(
    ("syntax", "encoder", "container", "coding"),
    [
        (uid.MPEG2MPML, "mpeg2video", "mpeg2video", "mpeg2"),
        (uid.MPEG4HP41, "libx264", "h264", "h264"),
        (uid.MPEG4HP41, "libx264", "mp4", "h264"),
    ],
)
def test_a_video_in_dicom_is_read(
    tmp_path: Path, syntax: uid.UID, encoder: str, container: str, coding: str
):
    buffer = io.BytesIO()
    frames = (
        np.zeros((12, 64, 96, 3), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None]
    )
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(encoder, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for one in frames * 20:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        output.mux(stream.encode())
    dataset = _dataset(frames, PhotometricInterpretation="YBR_PARTIAL_420", FrameTime=40)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    means = exam.frames.mean(axis=(1, 2, 3))
    assert exam.frames.shape == frames.shape
    assert np.abs(means - 20 * np.arange(12)).max() < 6
    assert (exam.frame_time, exam.facts["coding"]) == (40, coding)


# Facts and privacy.


@pytest.mark.parametrize(
    ("told", "fact", "refused"),
    [("YES", "yes", True), ("NO", "no", False), ("", "unknown", True), (None, "unknown", True)],
)
def test_burned_in_text_is_a_fact_or_a_reason(
    tmp_path: Path, told: str | None, fact: str, refused: bool
):
    dataset = _dataset(np.zeros((4, 4), np.uint8))
    if told is not None:
        dataset.BurnedInAnnotation = told
    path = _save(dataset, tmp_path / "e.dcm")
    assert _read(path).facts["burned_in"] == fact
    if refused:
        with pytest.raises(UnreadableError, match="burned into"):
            _read(path, burned_in="quarantine")
    else:
        assert _read(path, burned_in="quarantine")


def test_facts_of_the_acquisition_are_kept(tmp_path: Path):
    dataset = _dataset(
        np.zeros((4, 4), np.uint8),
        Modality="MR",
        SliceThickness=3,
        MagneticFieldStrength=1.5,
        EchoTime=12.5,
        RepetitionTime=500,
        KVP=120,
        Manufacturer="SIEMENS Healthineers",
        AcquisitionDate="20190231",
        SeriesDate="20190228",
    )
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    assert dict(exam.facts) == {
        "burned_in": "unknown",
        "source_dtype": "uint8",
        "slice_thickness": 3,
        "field_strength": 1.5,
        "echo_time": 12.5,
        "repetition_time": 500,
        "tube_voltage": 120,
        "manufacturer": "siemens",
    }
    assert (exam.modality, exam.acquired) == ("MR", "2019-02-28")


def _plant(dataset: Dataset) -> None:
    """A name in every place where one may be that is text."""
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientComments",
        "OtherPatientNames",
        "InstitutionName",
        "OperatorsName",
        "StudyDescription",
        "SeriesDescription",
        "ProtocolName",
        "ImageComments",
        "StationName",
        "ReferringPhysicianName",
        "DeviceSerialNumber",
        "Manufacturer",
        "ManufacturerModelName",
        "AccessionNumber",
        "StudyID",
    ):
        setattr(dataset, keyword, NAME)
    for keyword in ("Modality", "ImageType", "BurnedInAnnotation"):
        setattr(dataset, keyword, NAME.upper())
    dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = "1.2.777777"
    private = dataset.private_block(0x0009, NAME, create=True)
    private.add_new(1, "LO", NAME)
    nested = Dataset()
    nested.PersonName = NAME
    dataset.RequestAttributesSequence = [nested]
    overlay = dataset.private_block(0x6001, NAME, create=True)
    overlay.add_new(1, "OB", NAME.encode() + b"\0")
    dataset.add_new(0x60003000, "OW", NAME.encode() * 2)
    dataset.add_new(0xFFFCFFFC, "OB", NAME.encode() * 2)
    dataset.file_meta.PrivateInformationCreatorUID = uid.UID("1.2.3")
    dataset.file_meta.PrivateInformation = NAME.encode() + b"\0"


def _nameless(exam: Exam) -> bool:
    stored = container.dumps(exam)
    about = repr(
        (exam.facts, exam.modality, exam.acquired, exam.encoded and exam.encoded.parameters)
    )
    words = [NAME.encode(), NAME.upper().encode(), NAME.encode("utf-16-le"), b"Planted", b"1.2.777"]
    words += [b"1.2.3.", b"9.9."]
    return not any(word in stored or word.decode(errors="replace") in about for word in words)


@pytest.mark.parametrize("syntax", [None, *LOSSLESS])
def test_no_name_of_the_header_is_stored(tmp_path: Path, syntax: uid.UID | None):
    dataset = _dataset(_smooth((3, 32, 48), "uint8", 200))
    if syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    _plant(dataset)
    path = _save(dataset, tmp_path / f"{NAME}.dcm")
    assert path.read_bytes().count(NAME.encode()) > 15
    exam = _read(path)
    assert _nameless(exam)
    assert exam.modality == ""
    assert exam.facts["manufacturer"] == "other"


def _with_names(frame: bytes) -> bytes:
    segment = (len(NAME) + 2).to_bytes(2, "big") + NAME.encode()
    marked = b"".join(b"\xff" + bytes([m]) + segment for m in (0xFE, 0xE1, 0xE2, 0xED))
    return frame[:2] + marked + frame[2:] + NAME.encode()


def test_no_name_in_a_jpeg_frame_is_stored(tmp_path: Path):
    original = Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
    path = _jpeg_clip(tmp_path, lambda frames: encapsulate([*map(_with_names, frames)]))
    exam = _read(path)
    assert exam.encoded is not None
    assert _nameless(exam)
    assert exam_id(exam.frames) == exam_id(_read(original).frames)


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_no_name_in_a_lossless_frame_is_stored(tmp_path: Path, syntax: uid.UID):
    frames = _smooth((2, 32, 48), "uint8", 200)
    dataset = _dataset(frames)
    dataset.compress(syntax, generate_instance_uid=False)
    parts = [*generate_frames(dataset.PixelData, number_of_frames=2)]
    if syntax == uid.JPEGLSLossless:
        parts = [*map(_with_names, parts)]
    else:
        comment = b"\xff\x64" + (len(NAME) + 4).to_bytes(2, "big") + b"\0\1" + NAME.encode()
        first = [part.index(b"\xff\x52") for part in parts]
        parts = [p[:n] + comment + p[n:] + NAME.encode() for p, n in zip(parts, first, strict=True)]
    dataset.PixelData = encapsulate(parts)
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    assert exam.encoded is not None
    assert _nameless(exam)
    assert (exam.frames == frames).all()


def test_no_name_in_what_follows_run_lengths_is_stored(tmp_path: Path):
    frames = _smooth((2, 32, 48), "uint8", 200)
    dataset = _dataset(frames)
    dataset.compress(uid.RLELossless, generate_instance_uid=False)
    parts = [*generate_frames(dataset.PixelData, number_of_frames=2)]
    dataset.PixelData = encapsulate([part + NAME.encode() for part in parts])
    exam = _read(_save(dataset, tmp_path / "e.dcm"))
    assert _nameless(exam)
    assert (exam.frames == frames).all()


def test_a_name_where_a_number_should_be_is_not_told(tmp_path: Path, capfd, caplog, recwarn):
    dataset = _dataset(np.zeros((4, 4), np.uint8), SliceThickness=1, NumberOfFrames=1)
    path = _save(dataset, tmp_path / "e.dcm")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x28\0\x08\0IS\x02\x001 ", b"\x28\0\x08\0IS\x02\x00Do"))
    with pytest.raises(UnreadableError) as error:
        _read(path)
    out, err = capfd.readouterr()
    assert "Do" not in f"{error.value}{out}{err}{caplog.text}"
    assert not any("Do" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["CT_small.dcm", "examples_ybr_color.dcm", "MR_small_RLE.dcm"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float):
    content = Path(str(get_testdata_file(name, download=False))).read_bytes()
    path = tmp_path / "e.dcm"
    path.write_bytes(content[: int(share * (len(content) - 200))])
    with pytest.raises(UnreadableError):
        _read(path)


@pytest.mark.parametrize("name", ["CT_small.dcm", "SC_rgb_small_odd_jpeg.dcm", "MR_small_RLE.dcm"])
def test_a_damaged_file_is_read_or_refused_and_never_ends_the_process(tmp_path: Path, name: str):
    content = Path(str(get_testdata_file(name, download=False))).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "e.dcm"
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 6):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(Exception):  # which `readers.read` puts in words
            dicom.series(_file(path))
            dicom.read([_file(path)], Reading())


def test_reading_leaves_the_libraries_as_they_were(tmp_path: Path):
    before = copy.copy(vars(config.settings))
    level = config.logger.level
    _read(_save(_dataset(np.zeros((4, 4), np.uint8)), tmp_path / "e.dcm"))
    assert vars(config.settings) == before
    assert config.logger.level == level

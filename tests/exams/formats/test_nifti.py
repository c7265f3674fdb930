import gzip
import io
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from keyslice.config import Limits
from keyslice.exams import container, readers
from keyslice.exams.exam import Exam
from keyslice.exams.source import Reading, SourceFile, UnreadableError, file_state

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path, slice_axis: Literal["auto", 0, 1, 2] = "auto") -> Exam:
    file = SourceFile(path.name, path, *file_state(path.stat()))
    return readers.read("nifti", [file], Reading(slice_axis=slice_axis))


def _save(path: Path, samples: np.ndarray, affine: np.ndarray = LPS) -> Path:
    nib.save(nib.Nifti1Image(samples, affine, dtype=samples.dtype), path)
    return path


def test_axial_slices_stored_in_lps_come_as_they_are_seen(tmp_path: Path):
    frames = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    exam = read(_save(tmp_path / "e.nii", frames.transpose(2, 1, 0)))
    assert (exam.frames == frames).all()


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, 1, -1), (1, -1, -1)])
def test_the_stored_orientation_does_not_matter(tmp_path: Path, flips: tuple[int, ...]):
    samples = np.arange(2 * 3 * 4, dtype=np.int16).reshape(4, 3, 2)
    turned = samples[tuple(slice(None, None, flip) for flip in flips)]
    affine = LPS @ np.diag([*flips, 1.0])
    affine[:3, 3] = [
        LPS[a, a] * (samples.shape[a] - 1) if flip < 0 else 0 for a, flip in enumerate(flips)
    ]
    one = read(_save(tmp_path / "a.nii", samples))
    other = read(_save(tmp_path / "b.nii", turned, affine))
    assert (one.frames == other.frames).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_frames_that_run_against_the_files_own_order_are_known_to(
    tmp_path: Path, axis: Literal[0, 1, 2], order: tuple[int, ...]
):
    """Whichever of the file's axes the slices lie along."""
    stored_axis = order.index(axis)
    samples = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    for sign in (1, -1):
        affine = np.zeros((4, 4))
        affine[list(order), range(3)] = 1
        affine[axis, stored_axis] = sign
        affine[3, 3] = 1
        exam = read(_save(tmp_path / "e.nii", samples, affine), axis)
        own = np.moveaxis(samples, stored_axis, 0)
        first = own[-1 if exam.reversed else 0]
        assert sorted(exam.frames[0].ravel()) == sorted(first.ravel())
        assert exam.reversed == (sign < 0)
        assert exam.plane == ("sagittal", "coronal", "axial")[axis]


def test_slices_run_along_the_axis_of_coarsest_spacing(tmp_path: Path):
    exam = read(_save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1, 3, 1, 1.0])))
    assert exam.frames.shape == (5, 6, 4)
    assert exam.spacing == (3.0, 1.0, 1.0)


def test_slices_run_along_the_last_axis_where_none_is_clearly_coarsest(tmp_path: Path):
    affine = np.diag([1.003, 1, 1, 1.0])
    exam = read(_save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.uint8), affine))
    assert exam.frames.shape == (6, 5, 4)


def test_a_given_slice_axis_is_taken(tmp_path: Path):
    path = _save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1, 3, 1, 1.0]))
    assert read(path, 0).frames.shape == (4, 6, 5)


def test_units_are_turned_into_millimetres(tmp_path: Path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([1e-3, 1e-3, 5e-3, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "e.nii.gz")
    spacing = read(tmp_path / "e.nii.gz").spacing
    assert spacing == pytest.approx((5, 1, 1))


@pytest.mark.parametrize(
    ("stored", "values", "kept"),
    [
        ("uint8", [0, 255], "uint8"),
        ("int16", [-1024, 3071], "int16"),
        ("int8", [-128, 127], "int16"),
        ("uint16", [0, 4095], "int16"),
        ("uint16", [0, 65535], "float32"),
        ("int32", [-(2**24), 2**24], "float32"),
        ("float32", [0.1, 1e30], "float32"),
    ],
)
def test_samples_keep_their_values(tmp_path: Path, stored: str, values: list[float], kept: str):
    samples = np.array([[values]], dtype=stored)
    exam = read(_save(tmp_path / "e.nii", samples), 2)
    assert exam.frames.dtype == kept
    assert exam.frames.ravel().tolist() == samples.ravel().tolist()


def _scaled(path: Path, samples: np.ndarray, slope: float, intercept: float) -> Path:
    content = bytearray(_save(path, samples).read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("slope", "intercept", "kept", "values"),
    [
        (0.5, -1, "float32", [-1.0, 1.0]),
        (1, -1024, "int16", [-1024, -1020]),
        (2**30, 0, "float32", [0, 2.0**32]),
        (0, 7, "int16", [0, 4]),  # no scaling, the standard says
    ],
)
def test_the_headers_scaling_is_applied(
    tmp_path: Path, slope: float, intercept: float, kept: str, values: list[float]
):
    exam = read(_scaled(tmp_path / "e.nii", np.array([[[0, 4]]], np.int16), slope, intercept), 2)
    assert exam.frames.dtype == kept
    assert exam.frames.ravel().tolist() == values


def test_scaling_of_whole_numbers_never_wraps_around(tmp_path: Path):
    samples = np.array([[[0, 2**40]]], np.int64)
    exam = read(_scaled(tmp_path / "e.nii", samples, 2**24, 1), 2)
    assert exam.frames.ravel().tolist() == [1, 2.0**64]


def test_samples_that_are_no_real_numbers_are_refused_scaled_or_not(tmp_path: Path):
    samples = np.array([[[1 + 2j, 3j]]], np.complex64)
    with pytest.raises(UnreadableError, match="complex64"):
        read(_scaled(tmp_path / "e.nii", samples, 2, 0), 2)


def test_scaled_samples_are_stored_in_less_space_than_the_file(tmp_path: Path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (20, 24, 8), np.int16)
    path = _scaled(tmp_path / "e.nii", samples, 0.37, 11)
    exam = read(path)
    content = container.dumps(exam)
    assert len(content) < path.stat().st_size + 700  # noise, which nothing compresses
    assert (container.load(io.BytesIO(content)).frames == exam.frames).all()


def test_a_series_of_one_slice_is_a_video(tmp_path: Path):
    frames = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    image = nib.Nifti1Image(frames.transpose(2, 1, 0)[:, :, None], LPS)
    image.header.set_zooms((1, 1, 1, 0.04))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "e.nii")
    exam = read(tmp_path / "e.nii")
    assert (exam.frames == frames).all()
    assert exam.frame_time == pytest.approx(40)
    assert exam.spacing is None
    assert (exam.reversed, exam.plane) == (False, None)


@pytest.mark.parametrize("value", [-1, 0, np.nan, np.inf])
def test_a_time_that_is_none_is_not_known(tmp_path: Path, value: float):
    path = _save(tmp_path / "e.nii", np.zeros((4, 5, 1, 3), np.uint8))
    header = bytearray(path.read_bytes())
    header[92:96] = np.array(value, "<f4").tobytes()  # pixdim[4]
    path.write_bytes(header)
    assert read(path).frame_time is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_spacing_that_is_none_is_not_known_and_tells_no_slice_axis(tmp_path: Path, value: float):
    path = _save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1, 1, 1, 1.0]))
    header = bytearray(path.read_bytes())
    header[84:88] = np.array(value, "<f4").tobytes()  # pixdim[2]
    path.write_bytes(header)
    exam = read(path)
    assert exam.spacing is None
    assert exam.plane == "axial"


def test_colour_is_read_as_three_channels(tmp_path: Path):
    colour = np.arange(4 * 3 * 2 * 3, dtype=np.uint8).reshape(4, 3, 2, 3)
    records = colour.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    exam = read(_save(tmp_path / "e.nii", records))
    assert (exam.frames == colour.transpose(2, 1, 0, 3)).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file_is_unreadable_and_its_name_is_not_told(
    tmp_path: Path, suffix: str, share: float
):
    rng = np.random.default_rng(0)
    path = _save(tmp_path / f"Doe_John{suffix}", rng.integers(0, 255, (30, 30, 30), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableError) as error:
        read(path)
    assert "Doe" not in str(error.value)


def test_a_name_that_a_library_quotes_without_its_folder_is_not_told(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Doe_John.nii").touch()
    with pytest.raises(UnreadableError, match="damaged") as error:
        read(Path("Doe_John.nii"))
    assert "Doe" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (123, b"\x3f"),  # units that there are not
        (280, bytes(48)),  # an affine of zeros
        (42, np.array([32767] * 3, "<i2").tobytes()),  # more samples than any memory holds
        (70, b"\xff\x7f"),  # a type of samples that there is not
    ],
)
def test_a_damaged_header_makes_a_file_unreadable_and_its_name_is_not_told(
    tmp_path: Path, place: int, content: bytes
):
    path = _save(tmp_path / "Doe_John.nii", np.zeros((4, 5, 6), np.uint8))
    header = bytearray(path.read_bytes())
    header[place : place + len(content)] = content
    path = path.with_suffix(".nii.gz")
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(UnreadableError, match="damaged") as error:
        read(path)
    assert "Doe" not in str(error.value)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((3, 3, 3, 2, 2), np.uint8), "neither a volume"),
        (np.zeros((3, 3), np.uint8), "neither a volume"),
        (np.full((3, 3, 3), np.nan, np.float32), "not finite"),
        (np.full((3, 3, 3), 2**24 + 1, np.int32), "without loss"),
        (np.zeros((3, 3, 3), np.complex64), "not supported"),
    ],
)
def test_what_cannot_become_an_exam_says_why(tmp_path: Path, samples: np.ndarray, reason: str):
    with pytest.raises(UnreadableError, match=reason):
        read(_save(tmp_path / "e.nii", samples))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_member_of_an_archive_is_the_same_exam(tmp_path: Path, member_file, suffix: str, kind):
    samples = np.arange(2 * 3 * 4, dtype=">i2").reshape(4, 3, 2)
    path = tmp_path / f"e{suffix}"
    nib.save(kind(samples, LPS), path)
    exam, member = read(path), readers.read("nifti", [member_file(path)], Reading())
    assert (exam.frames == samples.transpose(2, 1, 0)).all()
    assert (member.frames == exam.frames).all()
    assert (member.spacing, member.facts) == (exam.spacing, exam.facts)


@pytest.mark.parametrize("colour", [False, True])
def test_volumes_at_several_times_are_frames_slice_by_slice_time_by_time(
    tmp_path: Path, colour: bool
):
    channels = (3,) if colour else ()
    shape = (2, 3, 4, 5, *channels)  # time, slice, row, column
    frames = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    samples = np.moveaxis(frames, (0, 1, 2, 3), (3, 2, 1, 0))
    if colour:
        samples = np.ascontiguousarray(samples)
        samples = samples.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    exam = read(_save(tmp_path / "e.nii", samples))
    assert (exam.frames == frames.reshape(6, 4, 5, *channels)).all()
    assert (exam.frame_time, exam.plane, exam.reversed) == (None, None, False)
    assert exam.spacing == (1, 1, 1)


def test_slices_at_several_times_come_in_the_files_own_order(tmp_path: Path):
    samples = np.zeros((2, 2, 3, 2), np.uint8) + np.array([[1, 4], [2, 5], [3, 6]], np.uint8)
    for upwards in (1, -1):
        exam = read(_save(tmp_path / "e.nii", samples, np.diag([-1, -1, upwards, 1.0])))
        assert exam.frames[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
        assert not exam.reversed


def test_a_series_of_one_volume_is_that_volume(tmp_path: Path):
    samples = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    one = read(_save(tmp_path / "a.nii", samples))
    other = read(_save(tmp_path / "b.nii", samples[..., None]))
    assert (one.frames == other.frames).all()
    assert (one.spacing, one.facts) == (other.spacing, other.facts)


def test_a_flipped_bit_in_a_packed_file_is_noticed(tmp_path: Path):
    path = _save(tmp_path / "e.nii", np.zeros((30, 30, 30), np.uint8))
    content = bytearray(gzip.compress(path.read_bytes(), 0))  # stored: any bit still inflates
    content[len(content) // 2] ^= 1
    path.with_suffix(".nii.gz").write_bytes(content)
    with pytest.raises(UnreadableError, match="damaged"):
        read(path.with_suffix(".nii.gz"))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(frames=5), "6 frames"), (Limits(pixels=19), "20 pixels"), (Limits(memory=239), "240")],
)
def test_what_exceeds_the_limits_is_refused_before_it_is_read(
    tmp_path: Path, source_file, monkeypatch, limits: Limits, reason: str
):
    path = _save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.int16))
    monkeypatch.setattr("keyslice.exams.formats.nifti.ArrayProxy", None)
    with pytest.raises(UnreadableError, match=reason):
        readers.read("nifti", [source_file(path)], Reading(limits=limits))


def test_an_extension_that_claims_much_memory_is_not_read(tmp_path: Path):
    path = _save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.uint8))
    content = bytearray(path.read_bytes())
    content[348:356] = b"\x01\0\0\0" + np.array(2**31 - 16, "<i4").tobytes()
    path.write_bytes(content)
    assert read(path).frames.shape == (6, 5, 4)


def test_free_text_of_the_header_is_not_kept(tmp_path: Path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), LPS)
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = b"Doe^John"
    image.header.extensions.append(Nifti1Extension("comment", b"Doe^John"))
    nib.save(image, tmp_path / "e.nii")
    assert b"Doe^John" in (tmp_path / "e.nii").read_bytes()
    exam = read(tmp_path / "e.nii")
    assert b"Doe" not in container.dumps(exam)
    assert "Doe" not in repr(exam)


def test_two_files_are_no_exam(tmp_path: Path, source_file):
    file = source_file(_save(tmp_path / "e.nii", np.zeros((4, 5, 6), np.int16)))
    with pytest.raises(UnreadableError, match="one file"):
        readers.read("nifti", [file, file], Reading())

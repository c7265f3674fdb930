import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keyslice.config import Limits
from keyslice.exams import container, readers
from keyslice.exams.exam import Exam, exam_id
from keyslice.exams.source import Reading, SourceFile, UnreadableError

FRAMES = np.random.default_rng(0).integers(0, 255, (3, 4, 5), dtype=np.uint8)


@pytest.fixture
def read(source_file: Callable[[Path], SourceFile]) -> Callable[..., Exam]:
    def call(path: Path, **limits: int) -> Exam:
        return readers.read("arrays", [source_file(path)], Reading(limits=Limits(**limits)))

    return call


def _npy(path: Path, frames: np.ndarray) -> Path:
    np.save(path, frames)
    return path


def _npz(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


@pytest.mark.parametrize(
    ("array", "frames"),
    [
        (FRAMES, FRAMES),
        (np.asfortranarray(FRAMES), FRAMES),
        (FRAMES[0], FRAMES[:1]),
        (FRAMES > 100, (FRAMES > 100).astype(np.uint8)),
        (FRAMES.astype(">u2") * 100, FRAMES.astype(np.int16) * 100),
        (FRAMES.astype(np.uint16) * 257, FRAMES.astype(np.float32) * 257),
        (FRAMES.astype(np.int64) - 300, FRAMES.astype(np.int16) - 300),
        (FRAMES.astype(np.float64) / 4, FRAMES.astype(np.float32) / 4),
        (FRAMES.astype(np.float16), FRAMES.astype(np.float32)),
        (np.stack([FRAMES] * 3, axis=-1), np.stack([FRAMES] * 3, axis=-1)),
    ],
)
def test_arrays_keep_their_values(
    tmp_path: Path, read, member_file, array: np.ndarray, frames: np.ndarray
):
    path = _npy(tmp_path / "a.npy", array)
    for exam in (
        read(path),
        readers.read("arrays", [member_file(path)], Reading()),
        read(_npz(tmp_path / "a.npz", whatever=array)),
        read(_npz(tmp_path / "b.npz", frames=array, other=FRAMES, names=np.array(["Doe"]))),
    ):
        assert exam.frames.dtype == frames.dtype
        assert exam.frames.shape == frames.shape
        assert (exam.frames == frames).all()
        assert exam_id(exam.frames) == exam_id(frames)
        assert exam.facts == {"source_dtype": array.dtype.name}
        loaded = container.load(io.BytesIO(container.dumps(exam)))
        assert (loaded.frames == exam.frames).all()


def test_spacing_and_frame_time_are_read(tmp_path: Path, read):
    exam = read(_npz(tmp_path / "a.npz", x=FRAMES, spacing=[5, 0.5, 0.25], frame_time=40))
    assert exam.spacing == (5, 0.5, 0.25)
    assert exam.frame_time == 40


@pytest.mark.parametrize("value", [np.nan, 0, -1])
def test_measures_that_are_none_are_not_known(tmp_path: Path, read, value: float):
    exam = read(_npz(tmp_path / "a.npz", x=FRAMES, spacing=[1, 1, value], frame_time=value))
    assert (exam.spacing, exam.frame_time) == (None, None)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a": FRAMES, "b": FRAMES}, "2 arrays"),
        ({"spacing": np.ones(3)}, "0 arrays"),
        ({"frames": FRAMES, "spacing": np.ones(2)}, "spacing has shape"),
        ({"frames": FRAMES, "spacing": np.array("Doe")}, "no whole or real"),
        ({"frames": FRAMES, "frame_time": np.ones(2)}, "frame_time has shape"),
        ({"frames": np.zeros((2, 2), complex)}, "no whole or real"),
        ({"frames": np.zeros((2, 2), [("Doe", "f4")])}, "no whole or real"),
        ({"frames": np.zeros((2, 2), "S3")}, "no whole or real"),
        ({"frames": np.zeros((2, 2), "M8[s]")}, "no whole or real"),
        ({"frames": np.zeros(3)}, r"shape \(3,\)"),
        ({"frames": np.zeros((2, 3, 4, 4))}, r"shape \(2, 3, 4, 4\)"),
        ({"frames": np.zeros((2, 3, 4, 1, 3))}, "shape"),
        ({"frames": np.zeros((0, 3, 4))}, "shape"),
        ({"frames": np.full((2, 3, 4), np.inf)}, "not finite"),
        ({"frames": np.full((2, 3, 4), 1e300)}, "not finite"),
        ({"frames": np.full((2, 3, 4), 2**24 + 1)}, "without loss"),
    ],
)
def test_what_cannot_become_an_exam_says_why(
    tmp_path: Path, read, arrays: dict[str, np.ndarray], reason: str
):
    with pytest.raises(UnreadableError, match=reason) as error:
        read(_npz(tmp_path / "a.npz", **arrays))
    assert "Doe" not in str(error.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickled_objects_are_not_loaded(tmp_path: Path, read, name: str):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    array = np.array([[Evil()]], dtype=object)
    if name == "a.npy":
        np.save(tmp_path / name, array, allow_pickle=True)
    else:
        np.savez(tmp_path / name, frames=array)
    with pytest.raises(UnreadableError, match="no whole or real"):
        read(tmp_path / name)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_truncated_file_is_unreadable(tmp_path: Path, read, name: str, share: float):
    path = tmp_path / name
    _npy(path, FRAMES) if name == "a.npy" else _npz(path, frames=FRAMES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableError, match="damaged"):
        read(path)


def test_what_follows_an_array_is_not_silently_left_out(tmp_path: Path, read):
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, FRAMES)
        np.save(file, FRAMES)
    with pytest.raises(UnreadableError, match="length"):
        read(tmp_path / "a.npy")


def test_a_flipped_bit_in_an_npz_is_noticed(tmp_path: Path, read):
    np.savez(tmp_path / "a.npz", frames=np.zeros((30, 30, 30), np.uint8))  # stored, not deflated
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UnreadableError, match="damaged"):
        read(tmp_path / "a.npz")


def _claiming(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((10**9, 10, 10), "frames"),
        ((10, 10**6, 10**6), "pixels"),
        ((10**4, 8000, 8000, 3), "bytes"),
        ((2**62, 2**62, 2**62), "frames"),
    ],
)
def test_an_array_that_claims_to_be_huge_is_refused_by_its_header(
    tmp_path: Path, read, monkeypatch, name: str, shape: tuple[int, ...], reason: str
):
    path = tmp_path / name
    if name == "a.npy":
        path.write_bytes(_claiming(shape) + bytes(80))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("frames.npy", _claiming(shape) + bytes(10_000))
    monkeypatch.setattr("keyslice.exams.formats.arrays._samples", None)
    with pytest.raises(UnreadableError, match=f"{reason}.*limits"):
        read(path)


def test_a_spacing_that_claims_to_be_huge_is_refused_by_its_header(tmp_path: Path, read):
    path = _npz(tmp_path / "a.npz", frames=FRAMES)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("spacing.npy", _claiming((10**12,)))
    with pytest.raises(UnreadableError, match="spacing has shape"):
        read(path)


def test_names_of_members_and_other_arrays_are_not_kept(tmp_path: Path, read):
    path = _npz(tmp_path / "Doe_John.npz", frames=FRAMES, patient=np.array("Doe^John"))
    one = _npz(tmp_path / "Doe_Jane.npz", **{"Doe^John": FRAMES})
    for exam in (read(path), read(one)):
        assert b"Doe" not in container.dumps(exam)
        assert "Doe" not in repr(exam)


def test_two_files_are_no_exam(tmp_path: Path, source_file):
    file = source_file(_npy(tmp_path / "a.npy", FRAMES))
    with pytest.raises(UnreadableError, match="one file"):
        readers.read("arrays", [file, file], Reading())


def test_samples_that_need_a_larger_type_are_stored_as_they_came(
    read: Callable[..., Exam], tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (3, 20, 24), np.uint16)
    path = _npy(tmp_path / "a.npy", samples)
    exam = read(path)
    assert exam.frames.dtype == np.float32
    content = container.dumps(exam)
    assert len(content) < path.stat().st_size + 700  # noise, which nothing compresses
    assert (container.load(io.BytesIO(content)).frames == samples).all()

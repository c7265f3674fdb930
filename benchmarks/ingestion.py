"""What reading and storing exams costs against the bare library's decoding of the same files."""

import gzip
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from benchmarks.timing import Ratio, alternate
from keyslice.config import Limits
from keyslice.exams import discovery
from keyslice.exams.discovery import Explorer, Header
from keyslice.exams.offer import header
from keyslice.exams.source import Reading, SourceFile
from keyslice.exams.taking import Taken, take
from keyslice.exams.workers import Workers

EXAMS = 8
ROUNDS = 5
SLICES, SIDE = 32, 512


def measure() -> Iterator[list[str]]:
    """Rows of the table."""
    for name, (write, decode) in SOURCES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "source"
            for number in range(EXAMS):
                exam = folder / f"{number}"
                exam.mkdir(parents=True)
                write(exam, _volume(number))
            yield [name, *_measured(folder, Path(place) / "stored", decode)]


def _measured(
    folder: Path, stored: Path, decode: Callable[[list[Path]], None]
) -> tuple[str, str, str]:
    """Time over the bare library's, in as many processes and in one; stored size over source."""
    with Workers(Limits()) as workers:

        def headers(files: Sequence[SourceFile]) -> Iterator[Header | str]:
            return workers.map(partial(header, token=str), files)

        units = Explorer(folder, Limits(), headers=headers).explore().units
        paths = [[Path(file.path) for file in unit.files] for unit in units]
        taken: list[Taken] = []

        def ours() -> None:
            shutil.rmtree(stored, ignore_errors=True)
            reads = [partial(discovery.read, unit, Reading()) for unit in units]
            results = [*workers.map(partial(take, folder=stored), reads)]
            taken[:] = [one for one in results if isinstance(one, Taken)]
            assert len(taken) == EXAMS, results

        def bare() -> None:
            for paths_of_one in paths:
                decode(paths_of_one)

        def bare_in_parallel() -> None:
            assert not any([*workers.map(decode, paths)])

        sides = {"ours": ours, "parallel": bare_in_parallel, "bare": bare}
        times = alternate(sides, ROUNDS)
    size = sum(one.part.stat().st_size for one in taken)
    source = sum(file.size for unit in units for file in unit.files)
    ratios = [Ratio.of(times["ours"], times[side]) for side in ("parallel", "bare")]
    told = [f"{r.median:.2f} ({r.low:.2f}–{r.high:.2f})" for r in ratios]
    return told[0], told[1], f"{size / source:.2f}"


def _volume(seed: int) -> np.ndarray:
    """Slices (T,H,W) uint8 of blobs and noise, as smooth as an ultrasound or CT image."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(SLICES // 4 + 1, SIDE // 16 + 1, SIDE // 16 + 1))
    fine = coarse.repeat(4, 0).repeat(16, 1).repeat(16, 2)[:SLICES, :SIDE, :SIDE]
    blurred = np.cumsum(fine, axis=2)
    blurred -= np.roll(blurred, 16, axis=2)
    noise = rng.normal(scale=3, size=fine.shape)
    return (blurred * 4 + 110 + noise).clip(0, 255).astype(np.uint8)


def _write_video(codec: str, name: str) -> Callable[[Path, np.ndarray], None]:
    def write(folder: Path, volume: np.ndarray) -> None:
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = SIDE  # type: ignore[attr-defined]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"  # type: ignore
            for frame in volume:
                shown = av.VideoFrame.from_ndarray(frame, "gray").reformat(format=stream.pix_fmt)  # type: ignore
                container.mux(stream.encode(shown))  # type: ignore[attr-defined]
            container.mux(stream.encode())  # type: ignore[attr-defined]

    return write


def _decode_video(paths: list[Path]) -> None:
    with av.open(str(paths[0])) as container:
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def _write_images(ending: str) -> Callable[[Path, np.ndarray], None]:
    def write(folder: Path, volume: np.ndarray) -> None:
        for number, frame in enumerate(volume):
            Image.fromarray(frame).save(folder / f"{number:03d}{ending}")

    return write


def _decode_images(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image)


def _write_dicom(syntax: str | None) -> Callable[[Path, np.ndarray], None]:
    def write(folder: Path, volume: np.ndarray) -> None:
        template = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        series = generate_uid()
        for number, frame in enumerate(volume):
            template.SeriesInstanceUID = series
            template.SOPInstanceUID = generate_uid()
            template.InstanceNumber = number
            template.ImagePositionPatient = [0, 0, number * 4.0]
            template.Rows, template.Columns = frame.shape
            template.set_pixel_data(frame.astype(np.int16) * 8, "MONOCHROME2", 16)
            if syntax:
                template.compress(syntax, generate_instance_uid=False)
            template.save_as(folder / f"{number}.dcm")

    return write


def _decode_dicom(paths: list[Path]) -> None:
    for path in paths:
        _ = pydicom.dcmread(path).pixel_array


def _write_nifti(folder: Path, volume: np.ndarray) -> None:
    samples = volume.T.astype(np.int16) * 8
    content = nib.Nifti1Image(samples, np.diag([-1.0, -1.0, 4.0, 1.0])).to_bytes()
    (folder / "a.nii.gz").write_bytes(gzip.compress(content, 6))


def _decode_nifti(paths: list[Path]) -> None:
    np.asanyarray(nib.load(paths[0]).dataobj)  # type: ignore[attr-defined]


def _write_npz(folder: Path, volume: np.ndarray) -> None:
    np.savez_compressed(folder / "a.npz", frames=volume)


def _decode_npz(paths: list[Path]) -> None:
    with np.load(paths[0]) as arrays:
        _ = arrays["frames"]


SOURCES: dict[str, tuple[Callable[[Path, np.ndarray], None], Callable[[list[Path]], None]]] = {
    "H.264 in mp4": (_write_video("libx264", "a.mp4"), _decode_video),
    "MPEG-4 in avi": (_write_video("mpeg4", "a.avi"), _decode_video),
    "MPEG-1 in mpeg": (_write_video("mpeg1video", "a.mpeg"), _decode_video),
    "Motion JPEG in mov": (_write_video("mjpeg", "a.mov"), _decode_video),
    "folder of JPEG": (_write_images(".jpg"), _decode_images),
    "folder of PNG": (_write_images(".png"), _decode_images),
    "DICOM, JPEG 2000": (_write_dicom(JPEG2000Lossless), _decode_dicom),
    "DICOM, JPEG-LS": (_write_dicom(JPEGLSLossless), _decode_dicom),
    "DICOM, RLE": (_write_dicom(RLELossless), _decode_dicom),
    "DICOM, uncompressed": (_write_dicom(None), _decode_dicom),
    "NIfTI, gzip": (_write_nifti, _decode_nifti),
    "npz, deflate": (_write_npz, _decode_npz),
}

"""Small sound files of every format, and ways to damage them."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import nibabel as nib
import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

FRAMES = np.random.default_rng(0).integers(0, 255, (6, 32, 40, 3), dtype=np.uint8)
FRAMES = np.sort(FRAMES, axis=2)  # smooth enough for any encoder

VIDEOS = {
    "a.mp4": "libx264",
    "b.mov": "mpeg4",
    "c.mpeg": "mpeg1video",
    "d.mpg": "mpeg2video",
    "e.avi": "mjpeg",
    "f.mkv": "libx264",
    "g.webm": "libvpx-vp9",
    "h.gif": "gif",
}
PICTURES = ("a.png", "b.jpg", "c.tif", "d.bmp", "e.webp")
DICOM = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "emri_small.dcm",
)
"""Of pydicom's own; those that its wheel lacks are left out."""


def _video(name: str, codec: str) -> bytes:
    target = io.BytesIO()
    form = {"mpg": "mpeg", "mkv": "matroska"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 40, 32
        stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return target.getvalue()


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    save(target)
    return target.getvalue()


def sound() -> dict[str, bytes]:
    """Files that can all be read, by a name that tells their format."""
    grey = FRAMES[..., 0]
    image = nib.Nifti1Image(grey.T.astype(np.int16), np.diag([-1.0, -1.0, 4.0, 1.0]))
    files = {
        "v.nii": image.to_bytes(),
        "w.nii.gz": gzip.compress(image.to_bytes(), mtime=0),
        "x.npy": _saved(lambda t: np.save(t, grey)),
        "y.npz": _saved(lambda t: np.savez_compressed(t, frames=grey)),
    }
    for name in PICTURES:
        form = {"jpg": "jpeg", "tif": "tiff"}.get(name[2:], name[2:])
        files[name] = _saved(lambda t, form=form: Image.fromarray(FRAMES[0]).save(t, form))
    for name, codec in VIDEOS.items():
        if codec in av.codecs_available:
            files[name] = _video(name, codec)
    for number, name in enumerate(DICOM):
        if path := get_testdata_file(name, download=False):
            files[name] = of_its_own(Path(path).read_bytes(), number)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.nii", files["v.nii"])
    return files | {"z.zip": archive.getvalue()}


def of_its_own(content: bytes, number: int) -> bytes:
    """A DICOM file as the only one of its series; another file as it is."""
    tag = content.find(b"\x20\x00\x0e\x00")
    if tag < 0 or content[128:132] != b"DICM":
        return content
    start = tag + 8
    length = content[tag + 6] if content[tag + 4 : tag + 6] == b"UI" else content[tag + 4]
    uid = f"1.2.{number}.".ljust(length - 1, "1").encode() + b"\0"
    return content[:start] + uid + content[start + length :]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to four faults of a random kind."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        FAULTS[rng.integers(len(FAULTS))](data, rng)
    return bytes(data)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Half of the time near the start, where headers are."""
    most = min(512, len(data)) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(most, 1)))


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 9)):
        if data:
            data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _extreme(data: bytearray, rng: np.random.Generator) -> None:
    """A number that headers are rarely tested with."""
    values = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
    place = _place(data, rng)
    data[place : place + 4] = values[rng.integers(len(values))]


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _drop(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    del data[place : place + int(rng.integers(1, 200))]


def _double(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + int(rng.integers(1, 200))]


def _noise(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    length = min(int(rng.integers(1, 100)), len(data) - place)
    data[place : place + length] = rng.bytes(length)


FAULTS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip,
    _extreme,
    _cut,
    _drop,
    _double,
    _noise,
)

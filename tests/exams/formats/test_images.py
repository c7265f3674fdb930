import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from keyslice.config import Limits
from keyslice.exams import container, readers
from keyslice.exams.exam import Exam, exam_id
from keyslice.exams.formats.images import natural
from keyslice.exams.source import Reading, SourceFile, UnreadableError, file_state
from keyslice.exams.stripping import png

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 12, 16), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
NAME = b"Doe^John"


def read(paths: Sequence[Path], **limits: int) -> Exam:
    files = [SourceFile(f"f/{path.name}", path, *file_state(path.stat())) for path in paths]
    return readers.read("images", files, Reading(limits=Limits(**limits)))


def check_stored(exam: Exam) -> bytes:
    """What is stored is the exam, has no name in it, and is given back."""
    stored = container.dumps(exam)
    assert NAME not in stored
    loaded = container.load(io.BytesIO(stored))
    assert loaded.frames.dtype == exam.frames.dtype
    assert exam_id(loaded.frames) == exam_id(exam.frames)
    return stored


def save(folder: Path, images: Sequence[Image.Image], suffix: str, **options) -> list[Path]:
    paths = [folder / f"{number}{suffix}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path, **options)
    return paths


def greys() -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in GREY]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".webp"])
@pytest.mark.parametrize("frames", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_are_frames_bit_for_bit(tmp_path: Path, suffix: str, frames: np.ndarray):
    paths = save(tmp_path, [Image.fromarray(f) for f in frames], suffix, lossless=True)
    exam = read(paths)
    if suffix == ".webp" and frames.ndim == 3:  # which knows no grey
        frames = np.stack([frames] * 3, axis=-1)
    assert exam.frames.shape == frames.shape
    assert (exam.frames == frames).all()
    assert exam.facts == {"source_dtype": "uint8"}
    assert (exam.encoded is not None) == (suffix == ".png")
    check_stored(exam)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
@pytest.mark.parametrize("frames", [GREY, COLOUR], ids=["grey", "colour"])
def test_jpeg_files_are_frames_as_pillow_decodes_them(
    tmp_path: Path, suffix: str, frames: np.ndarray
):
    paths = save(tmp_path, [Image.fromarray(f) for f in frames], suffix, quality=80)
    exam = read(paths)
    assert (exam.frames == np.stack([np.asarray(Image.open(path)) for path in paths])).all()
    assert exam.encoded is not None
    check_stored(exam)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_exif_does_no_harm_to_the_picture(tmp_path: Path, suffix: str):
    image = Image.fromarray(GREY[0])
    [path] = save(tmp_path, [image], suffix, exif=b"Exif\0\0no TIFF header", lossless=True)
    assert (read([path]).frames[0].shape[:2]) == GREY[0].shape


def test_frames_come_in_the_natural_order_of_names(tmp_path: Path):
    paths = [tmp_path / f"im{n}.png" for n in ("10", "9", "1", "2", "010")]
    for number, path in enumerate(paths):
        Image.new("L", (2, 2), number).save(path)
    exam = read(paths)
    assert exam.frames[:, 0, 0].tolist() == [2, 3, 1, 4, 0]
    assert sorted(["b1", "a10", "A9", "a"], key=natural) == ["a", "A9", "a10", "b1"]


def test_members_of_an_archive_are_read(tmp_path: Path):
    paths = save(tmp_path, greys(), ".png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    status = file_state((tmp_path / "a.zip").stat())
    files = [SourceFile(f"a.zip/{p.name}", tmp_path / "a.zip", *status, p.name) for p in paths]
    assert (readers.read("images", files, Reading()).frames == GREY).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_of_a_tiff_file_are_frames(tmp_path: Path, compression: str | None):
    first, *others = greys()
    path = tmp_path / "a.tif"
    first.save(path, save_all=True, append_images=others, compression=compression)
    assert (read([path]).frames == GREY).all()


def test_an_animated_png_is_as_many_frames(tmp_path: Path):
    first, *others = greys()
    first.save(tmp_path / "a.png", save_all=True, append_images=others)
    exam = read([tmp_path / "a.png"])
    assert (exam.frames == GREY).all()
    check_stored(exam)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("top", "kept"), [(32767, "int16"), (65535, "float32")])
def test_grey_of_16_bits_keeps_its_values(tmp_path: Path, suffix: str, top: int, kept: str):
    samples = np.array([[0, 1, 300, top]], np.uint16)
    exam = read(save(tmp_path, [Image.fromarray(samples)] * 2, suffix))
    assert exam.frames.dtype == kept
    assert (exam.frames == samples).all()
    assert exam.facts == {"source_dtype": "uint16"}
    check_stored(exam)


def test_real_numbers_of_a_tiff_file_keep_their_values(tmp_path: Path):
    samples = np.array([[-1.5, 0, 1e30]], np.float32)
    exam = read(save(tmp_path, [Image.fromarray(samples)], ".tif"))
    assert exam.frames.dtype == np.float32
    assert (exam.frames == samples).all()


@pytest.mark.parametrize(
    ("dtype", "photometric", "kind", "values", "seen"),
    [
        ("<i2", 1, 2, [-5, 9], [-5, 9]),
        ("i1", 1, 2, [-5, 9], [-5, 9]),
        ("<u4", 1, 1, [0, 2**24], [0, 2**24]),
        ("<u2", 0, 1, [0, 65535], [65535, 0]),
        ("u1", 0, 1, [0, 255], [255, 0]),
    ],
)
def test_a_tiff_files_own_kinds_of_samples_are_known(
    tmp_path: Path, dtype: str, photometric: int, kind: int, values: list[int], seen: list[int]
):
    data = np.array(values, dtype).tobytes()
    bits = 8 * np.dtype(dtype).itemsize
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1}
    tags |= {279: len(data), 339: kind}
    start = 8 + len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", start) + data + directory)
    assert read([tmp_path / "a.tif"]).frames.ravel().tolist() == seen


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit_a_pixel_becomes_0_and_255(tmp_path: Path, suffix: str):
    image = Image.fromarray(GREY[0] > 100)
    exam = read(save(tmp_path, [image], suffix))
    assert (exam.frames == (GREY[:1] > 100) * 255).all()
    assert exam.frames.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_becomes_colour(tmp_path: Path, suffix: str):
    image = Image.fromarray(COLOUR[0]).quantize(16)
    exam = read(save(tmp_path, [image], suffix))
    assert (exam.frames[0] == np.asarray(image.convert("RGB"))).all()
    check_stored(exam)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str):
    paths = save(tmp_path, [Image.fromarray(COLOUR[0]).convert("CMYK")], suffix)
    exam = read(paths)
    assert (exam.frames[0] == np.asarray(Image.open(paths[0]).convert("RGB"))).all()
    check_stored(exam)


def _over_black(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples[..., :-1] * (samples[..., -1:] / 255)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_what_is_transparent_is_seen_over_black(tmp_path: Path, suffix: str):
    samples = RNG.integers(0, 256, (12, 16, 4), dtype=np.uint8)
    paths = save(tmp_path, [Image.fromarray(samples)], suffix, lossless=True, exact=True)
    assert (read(paths).frames[0] == _over_black(samples)).all()


def test_grey_with_transparency_stays_grey(tmp_path: Path):
    samples = RNG.integers(0, 256, (12, 16, 2), dtype=np.uint8)
    exam = read(save(tmp_path, [Image.fromarray(samples, "LA")], ".png"))
    assert (exam.frames[0] == _over_black(samples)[..., 0]).all()


def test_an_opaque_image_is_the_same_exam_with_transparency_and_without(tmp_path: Path):
    image = Image.fromarray(COLOUR[0])
    image.save(tmp_path / "rgb.png")
    image.convert("RGBA").save(tmp_path / "rgba.png")
    one, other = read([tmp_path / "rgb.png"]), read([tmp_path / "rgba.png"])
    assert exam_id(one.frames) == exam_id(other.frames)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P"])
def test_a_value_that_stands_for_transparent_is_black(tmp_path: Path, mode: str):
    samples = {
        "1": np.array([[255, 0]], np.uint8),
        "L": np.array([[200, 7]], np.uint8),
        "I;16": np.array([[2000, 7]], np.uint16),
        "RGB": np.array([[[200, 9, 9], [7, 8, 9]]], np.uint8),
        "P": np.array([[[200, 9, 9], [7, 8, 9]]], np.uint8),
    }[mode]
    image = Image.fromarray(samples)
    key = (200, 9, 9) if mode == "RGB" else int(samples.flat[0])
    if mode == "1":
        image = image.convert("1")
    if mode == "P":
        image = image.quantize(2)
        key = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=key)
    exam = read([tmp_path / "a.png"])
    assert (exam.frames[0, 0] == [0 * samples[0, 0], samples[0, 1]]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_images_are_turned_as_exif_says(tmp_path: Path, suffix: str, orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(COLOUR[0])
    paths = save(tmp_path, [image], suffix, exif=exif, lossless=True)
    seen = ImageOps.exif_transpose(Image.open(paths[0]))
    exam = read(paths)
    assert (exam.frames[0] == np.asarray(seen)).all()
    assert exam.frames.shape[1:3] == ((12, 16) if orientation < 5 else (16, 12))
    check_stored(exam)


def test_images_are_compared_in_size_after_turning(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(GREY[0]).save(tmp_path / "1.png")
    Image.fromarray(GREY[0].T.copy()).save(tmp_path / "2.png", exif=exif)
    assert read([tmp_path / "1.png", tmp_path / "2.png"]).frames.shape == (2, 12, 16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("other", [GREY[0, :, :-1], COLOUR[0], GREY[0].astype(np.uint16)])
def test_images_of_several_sizes_or_kinds_are_refused(
    tmp_path: Path, suffix: str, other: np.ndarray
):
    images = [*greys(), Image.fromarray(np.ascontiguousarray(other))]
    with pytest.raises(UnreadableError, match="image 4 of 4 is of another size or kind"):
        read(save(tmp_path, images, suffix))


def test_several_files_of_several_pages_are_refused(tmp_path: Path):
    first, *others = greys()
    for name in ("a.tif", "b.tif"):
        first.save(tmp_path / name, save_all=True, append_images=others)
    with pytest.raises(UnreadableError, match="one of 2 images has 3 pages"):
        read([tmp_path / "a.tif", tmp_path / "b.tif"])


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _png(width: int, height: int, depth: int, colour_type: int, *coded: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *(_chunk(b"IDAT", part) for part in coded)]
    return b"".join([png.SIGNATURE, *chunks, _chunk(b"IEND", b"")])


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_colour_of_16_bits_is_refused_rather_than_halved(tmp_path: Path, colour_type: int):
    data = bytes(1 + {2: 6, 4: 4, 6: 8}[colour_type])
    (tmp_path / "a.png").write_bytes(_png(1, 1, 16, colour_type, zlib.compress(data)))
    with pytest.raises(UnreadableError, match="16 bits"):
        read([tmp_path / "a.png"])


def test_no_metadata_of_a_png_file_is_kept(tmp_path: Path):
    about = PngImagePlugin.PngInfo()
    about.add_text("Patient", NAME.decode())
    about.add_text("Zipped", NAME.decode() * 100, zip=True)
    about.add_itxt("XML:com.adobe.xmp", NAME.decode())
    exif = Image.Exif()
    exif[274], exif[315] = 3, NAME.decode()
    path = tmp_path / "Doe^John.png"
    Image.fromarray(GREY[0]).save(path, pnginfo=about, exif=exif, icc_profile=NAME)
    content = path.read_bytes()
    content = content[:33] + _chunk(b"PLTE", NAME + b"^") + _chunk(b"prVt", NAME) + content[33:]
    path.write_bytes(content + NAME)
    assert path.read_bytes().count(NAME) >= 5
    exam = read([path])
    assert (exam.frames[0] == GREY[0, ::-1, ::-1]).all()
    check_stored(exam)
    assert exam.encoded is not None
    kept = [kind for kind, _, _ in png.chunks(exam.encoded.parts[0])]
    assert set(kept) == {b"IHDR", b"IDAT", b"IEND"}
    assert "Doe" not in repr(exam.facts)


@pytest.mark.parametrize(
    "coded",
    [
        [zlib.compress(bytes(20)) + NAME],
        [zlib.compress(bytes(20)), NAME],
        [zlib.compress(bytes(20)), b"", NAME[:4], NAME[4:]],
        [zlib.compress(bytes(20) + NAME, 0)],
        [zlib.compress(bytes(20)) + NAME + b"\0\0\xff\xff" + bytes(4)],
    ],
)
def test_what_hides_after_the_last_pixel_of_a_png_file_is_not_kept(
    tmp_path: Path, coded: list[bytes]
):
    (tmp_path / "a.png").write_bytes(_png(4, 4, 8, 0, *coded))
    exam = read([tmp_path / "a.png"])
    assert exam.encoded is None
    assert not exam.frames.any()
    check_stored(exam)


def _deflated(data: bytes, level: int, strategy: int) -> bytes:
    coder = zlib.compressobj(level, strategy=strategy)
    return coder.compress(data) + coder.flush()


def _with_an_empty_last_block(data: bytes) -> bytes:
    """As Go's encoder ends: zlib's empty block of a flush, marked as the last one."""
    coder = zlib.compressobj()
    coded = coder.compress(data) + coder.flush(zlib.Z_SYNC_FLUSH)
    checksum = zlib.adler32(data).to_bytes(4, "big")
    for bit in range(16):
        marked = bytearray(coded)
        marked[-5 - bit // 8] |= 128 >> bit % 8
        whole = bytes(marked) + checksum
        try:
            if whole != coded + checksum and zlib.decompress(whole) == data:
                return whole
        except zlib.error:
            continue
    raise AssertionError("no bit marks the block as the last")


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 50), (300, 200)])
@pytest.mark.parametrize("content", ["zeros", "noise", "ramp"])
def test_a_sound_png_file_is_known_to_end_with_its_last_pixel_however_it_was_deflated(
    tmp_path: Path, shape: tuple[int, int], content: str
):
    rows = {
        "zeros": np.zeros(shape, np.uint8),
        "noise": RNG.integers(0, 256, shape, dtype=np.uint8),
        "ramp": np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint8),
    }[content]
    data = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # the byte of each row: not filtered
    coded = [_deflated(data, level, how) for level in (0, 1, 6, 9) for how in range(5)]
    for whole in [*coded, _with_an_empty_last_block(data)]:
        for parts in ([whole], [whole[:-3], whole[-3:]], [whole[:1], b"", whole[1:]]):
            path = tmp_path / "a.png"
            path.write_bytes(_png(shape[1], shape[0], 8, 0, *parts))
            exam = read([path])
            assert exam.encoded is not None
            assert (exam.frames[0] == rows).all()


def test_no_metadata_of_a_jpeg_file_is_kept(tmp_path: Path):
    exif = Image.Exif()
    exif[274], exif[315] = 3, NAME.decode()
    path = tmp_path / "Doe^John.jpg"
    Image.fromarray(GREY[0]).save(path, exif=exif, comment=NAME, xmp=NAME, icc_profile=NAME)
    path.write_bytes(path.read_bytes() + NAME)
    assert path.read_bytes().count(NAME) == 5
    exam = read([path])
    assert (exam.frames[0] == np.asarray(Image.open(path))[::-1, ::-1]).all()
    check_stored(exam)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".bmp"])
def test_no_metadata_of_other_files_is_kept(tmp_path: Path, suffix: str):
    exif = Image.Exif()
    exif[270], exif[315] = NAME.decode(), NAME.decode()
    path = tmp_path / f"Doe^John{suffix}"
    Image.fromarray(GREY[0]).save(path, exif=exif, xmp=NAME)
    path.write_bytes(path.read_bytes() + NAME)
    check_stored(read([path]))


def test_what_is_stored_is_hardly_larger_than_the_source(tmp_path: Path):
    y, x = np.mgrid[:64, :64]
    image = Image.fromarray(((x * y) % 256).astype(np.uint8))
    for suffix in (".png", ".jpg"):
        paths = save(tmp_path, [image] * 20, suffix)
        assert len(check_stored(read(paths))) <= 1.2 * sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_a_truncated_file_is_unreadable_and_its_name_is_not_told(
    tmp_path: Path, suffix: str, share: float
):
    paths = save(tmp_path, [Image.fromarray(COLOUR[0])] * 2, suffix)
    path = paths[1].rename(tmp_path / f"Doe_John{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableError) as error:
        read([paths[0], path])
    assert "Doe" not in str(error.value)


def test_any_flipped_bit_of_a_pictures_chunks_is_noticed(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY[0]).save(path)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(UnreadableError):
            read([path])


def _bomb(suffix: str, side: int) -> bytes:
    if suffix == ".png":
        return _png(side, side, 8, 0, zlib.compress(bytes(1000)))
    buffer = io.BytesIO()
    Image.new("L", (17, 19)).save(buffer, {".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF"}[suffix])
    content = buffer.getvalue()
    if suffix == ".jpg":
        return content.replace(struct.pack(">HH", 19, 17), struct.pack(">HH", side, side), 1)
    if suffix == ".bmp":
        return content.replace(struct.pack("<II", 17, 19), struct.pack("<II", side, side), 1)
    for tag, length in ((256, 17), (257, 19)):
        entry = struct.pack("<HHI", tag, 3, 1), struct.pack("<HHI", tag, 4, 1)
        width = struct.pack("<I", length), struct.pack("<I", side)
        for kind in entry:
            content = content.replace(kind + width[0], entry[1] + width[1], 1)
    return content


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("side", [8200, 12_000, 60_000])
def test_an_image_that_claims_to_be_huge_is_refused_by_its_header(
    tmp_path: Path, monkeypatch, suffix: str, side: int
):
    (tmp_path / f"a{suffix}").write_bytes(_bomb(suffix, side))
    monkeypatch.setattr("keyslice.exams.codecs.images.samples", None)
    with pytest.raises(UnreadableError, match="pixels"):
        read([tmp_path / f"a{suffix}"])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("limits", "reason"), [({"frames": 2}, "3 frames"), ({"memory": 575}, "576 bytes")]
)
def test_limits_count_all_images(tmp_path: Path, suffix: str, limits: dict[str, int], reason: str):
    with pytest.raises(UnreadableError, match=reason):
        read(save(tmp_path, greys(), suffix), **limits)


def test_a_second_image_that_claims_to_be_huge_is_refused_by_its_header(tmp_path: Path):
    for suffix in (".png", ".tif"):
        paths = save(tmp_path, greys()[:1], suffix)
        paths.append(tmp_path / f"x{suffix}")
        paths[1].write_bytes(_bomb(suffix, 8200))
        with pytest.raises(UnreadableError, match="image 2 of 2"):
            read(paths)

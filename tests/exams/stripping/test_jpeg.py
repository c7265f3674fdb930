import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from keyslice.exams.stripping import jpeg, jpeg2000

NAME = b"Doe^John"


def _picture(channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 255, (40, 56, channels), dtype=np.uint8)
    modes = {1: "L", 3: "RGB", 4: "CMYK"}
    return Image.frombytes(modes[channels], (56, 40), samples.tobytes())


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _samples(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_stripped_jpeg_is_the_same_picture_without_names(channels: int, progressive: bool):
    exif = Image.Exif()
    exif[0x010E] = NAME.decode()
    data = _saved(
        _picture(channels),
        "JPEG",
        progressive=progressive,
        exif=exif,
        comment=NAME,
        icc_profile=NAME * 3,
        xmp=b"<x>" + NAME + b"</x>",
    )
    data += NAME
    stripped = jpeg.strip(data)
    assert data.count(NAME) >= 5
    assert NAME not in stripped
    assert (_samples(stripped) == _samples(data)).all()
    assert jpeg.form(stripped) == (40, 56, channels, 8)
    assert jpeg.strip(stripped) == stripped


@pytest.mark.parametrize("keep_rgb", [False, True])
def test_how_colours_were_transformed_is_kept(keep_rgb: bool):
    data = _saved(_picture(), "JPEG", keep_rgb=keep_rgb)
    assert (_samples(jpeg.strip(data)) == _samples(data)).all()


def test_bytes_between_segments_and_in_a_thumbnail_are_left_out():
    data = _saved(_picture(), "JPEG")
    thumbnail = b"\xff\xe0\x00\x19JFIF\0\x01\x01\0\0\x01\0\x01\x01\x03" + NAME + b"!"
    planted = b"\xff\xd8" + thumbnail + NAME + data[2:]
    assert NAME not in jpeg.strip(planted)
    assert (_samples(jpeg.strip(planted)) == _samples(data)).all()


def test_restarts_are_kept():
    data = _saved(_picture(), "JPEG", restart_marker_blocks=2)
    assert b"\xff\xd3" in data
    assert (_samples(jpeg.strip(data)) == _samples(data)).all()


def test_a_table_longer_than_it_should_be_is_refused():
    data = _saved(_picture(), "JPEG")
    place = data.index(b"\xff\xdb")
    length = int.from_bytes(data[place + 2 : place + 4], "big") + len(NAME)
    end = place + length + 2 - len(NAME)
    planted = data[: place + 2] + length.to_bytes(2, "big") + data[place + 4 : end] + NAME
    with pytest.raises(ValueError, match="wrong length"):
        jpeg.strip(planted + data[end:])


def test_a_truncated_jpeg_stays_truncated():
    data = _saved(_picture(), "JPEG")
    stripped = jpeg.strip(data[: len(data) // 2])
    with pytest.raises(OSError, match="truncated"):
        _samples(stripped)


@pytest.mark.parametrize("options", [{"no_jp2": True}, {}, {"no_jp2": True, "tile_size": (16, 16)}])
def test_a_stripped_jpeg_2000_is_the_same_picture_without_names(options: dict[str, object]):
    data = _saved(_picture(), "JPEG2000", comment=NAME, **options) + NAME
    stripped = jpeg2000.strip(data)
    assert data.count(NAME) == 2
    assert NAME not in stripped
    assert (_samples(stripped) == _samples(data)).all()
    assert jpeg2000.form(stripped) == (40, 56, 3, 8)
    assert jpeg2000.strip(stripped) == stripped


def test_a_comment_in_a_tile_is_left_out():
    data = _saved(_picture(), "JPEG2000", no_jp2=True)
    comment = b"\xff\x64" + (4 + len(NAME)).to_bytes(2, "big") + b"\0\1" + NAME
    tile = data.index(b"\xff\x90")
    length = int.from_bytes(data[tile + 6 : tile + 10], "big") + len(comment)
    head = data[: tile + 6] + length.to_bytes(4, "big") + data[tile + 10 : tile + 12]
    planted = head + comment + data[tile + 12 :]
    assert (_samples(planted) == _samples(data)).all()
    assert jpeg2000.strip(planted) == jpeg2000.strip(data)
    assert NAME not in jpeg2000.strip(planted)


@pytest.mark.parametrize("strip", [jpeg.strip, jpeg2000.strip])
@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"nothing", b"\xff\xd8\xff\xe0", b"\xff\x4f\xff\x51"]
)
def test_what_is_no_stream_is_refused_or_has_no_form(strip: Callable[[bytes], bytes], data: bytes):
    with pytest.raises(ValueError, match="JPEG"):
        jpeg.form(strip(data))


@pytest.mark.parametrize(("form", "strip"), [("JPEG", jpeg.strip), ("JPEG2000", jpeg2000.strip)])
def test_damage_is_refused_with_a_value_error_or_left_to_the_decoder(
    form: str, strip: Callable[[bytes], bytes]
):
    data = _saved(_picture(), form)
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data[: rng.integers(len(data))])
        for place in rng.integers(0, len(damaged) or 1, 3) if damaged else ():
            damaged[place] = rng.integers(256)
        try:
            stripped = strip(bytes(damaged))
        except ValueError:
            continue
        assert len(stripped) <= len(data) + 20

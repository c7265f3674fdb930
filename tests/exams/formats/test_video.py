import io
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image

from keyslice.config import Limits
from keyslice.exams import container
from keyslice.exams.codecs import video as codec
from keyslice.exams.exam import Exam, exam_id
from keyslice.exams.formats import video
from keyslice.exams.source import Reading, SourceFile, UnreadableError

NAME = "DOE^JOHN"
LUNG = os.environ.get("KEYSLICE_TEST_LUNG_ULTRASOUND", "")
STORED_AS_IT_IS = [
    ("libx264", "mp4", "yuv420p"),
    ("libx264", "mov", "yuv444p"),
    ("libx264", "mkv", "gray"),
    ("libx264", "avi", "yuv420p"),
    ("libx265", "mp4", "yuv420p"),
    ("libx265", "mkv", "yuv420p10le"),
    ("mpeg4", "m4v", "yuv420p"),
    ("mpeg4", "avi", "yuv420p"),
    ("mpeg2video", "mpg", "yuv420p"),
    ("mpeg2video", "mov", "yuv422p"),
    ("mpeg1video", "mpeg", "yuv420p"),
    ("mjpeg", "avi", "yuvj420p"),
    ("mjpeg", "mov", "yuvj444p"),
    ("libvpx-vp9", "webm", "yuv420p"),
    ("libvpx", "webm", "yuv420p"),
    ("libsvtav1", "mp4", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("wmv1", "wmv", "yuv420p"),
    ("wmv2", "wmv", "yuv420p"),
    ("msmpeg4", "avi", "yuv420p"),
]
STORED_AS_SAMPLES = [
    ("ffv1", "mkv", "yuv420p"),
    ("ffv1", "avi", "gray"),
    ("huffyuv", "avi", "yuv422p"),
    ("png", "mov", "rgb24"),
    ("rawvideo", "avi", "bgr24"),
]
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"svtav1-params": "lp=1"}}


@pytest.fixture(autouse=True, scope="module")
def _quiet_encoder():
    os.environ["SVT_LOG"] = "0"


def _frames(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """Blocks of colour that move, and a mean that grows from frame to frame."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 120, (height // 8, width // 8, 3), dtype=np.uint8)
    still = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(still, n, axis=1) + np.uint8(8 * n % 128) for n in range(count)])


def _encode(
    path: Path,
    name: str,
    pixels: str = "yuv420p",
    frames: np.ndarray | None = None,
    *,
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    prepare: Callable[[Any, Any], None] = lambda output, stream: None,
    change: Callable[[av.Packet], list[av.Packet]] = lambda packet: [packet],
) -> Path:
    """Write a video; `times` in ms, `prepare(container, stream)` before, `change` each packet."""
    frames = _frames() if frames is None else frames
    with av.open(str(path), "w") as output:
        stream = output.add_stream(name, rate=rate, options=QUIET.get(name, {}) | (options or {}))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        prepare(output, stream)
        source = {3: "gray" if frames.dtype == np.uint8 else "gray16le", 4: "rgb24"}[frames.ndim]
        for number, samples in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(samples, format=source)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            _mux(output, stream, stream.encode(frame), change)
        _mux(output, stream, stream.encode(None), change)
    return path


def _mux(output: Any, stream: Any, packets: list[av.Packet], change: Callable[..., Any]) -> None:
    for packet in packets:
        for changed in change(packet):
            changed.stream = stream
            output.mux(changed)


def _replaced(packet: av.Packet, data: bytes) -> av.Packet:
    new = av.Packet(len(data))
    new.update(data)
    new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
    new.is_keyframe, new.duration = packet.is_keyframe, packet.duration
    return new


def _remux(source: Path, target: Path) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def _read(path: Path, **limits: int) -> Exam:
    file = SourceFile(path.name, path, path.stat().st_size, 0)
    return video.read([file], Reading(limits=Limits(**limits)))


def _plain(path: Path) -> np.ndarray:
    """As PyAV alone decodes it."""
    with av.open(str(path)) as source:
        return np.stack([codec.samples(frame) for frame in source.decode(video=0)])


@pytest.mark.parametrize(("name", "suffix", "pixels"), STORED_AS_IT_IS + STORED_AS_SAMPLES)
def test_frames_are_those_of_plain_decoding_before_and_after_they_are_stored(
    tmp_path: Path, name: str, suffix: str, pixels: str
):
    path = _encode(tmp_path / f"e.{suffix}", name, pixels)
    exam = _read(path)
    assert len(exam.frames) == 12
    assert (exam.frames == _plain(path)).all()
    assert exam.frame_time == pytest.approx(40)
    stored = container.load(io.BytesIO(container.dumps(exam)))
    assert stored.frames.dtype == exam.frames.dtype
    assert (stored.frames == exam.frames).all()
    assert (exam.encoded is not None) == ((name, suffix, pixels) in STORED_AS_IT_IS)


@pytest.mark.parametrize("name", ["libx264", "mpeg2video", "mpeg4"])
def test_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path, name: str):
    path = _encode(tmp_path / "e.mp4", name, options={"bf": "3", "g": "12"})
    with av.open(str(path)) as source:
        times = [packet.pts for packet in source.demux(video=0) if packet.size]
    assert times != sorted(times)
    means = _read(path).frames.mean(axis=(1, 2, 3))
    assert len(means) == 12
    assert (np.diff(means) > 2).all()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_of_a_variable_rate_each_frame_comes_once_with_their_median_time(
    tmp_path: Path, suffix: str
):
    times = [0, 40, 80, 120, 400, 440, 480, 500, 540, 580, 620, 2000]
    exam = _read(_encode(tmp_path / f"e.{suffix}", "libx264", times=times))
    assert len(exam.frames) == 12
    assert exam.frame_time == pytest.approx(40)
    assert exam.facts["variable_rate"] == 1


def test_times_that_vary_by_rounding_only_are_a_constant_rate(tmp_path: Path):
    exam = _read(_encode(tmp_path / "e.mkv", "libx264", rate=30))
    assert exam.frame_time == pytest.approx(1000 / 30, rel=2e-3)
    assert "variable_rate" not in exam.facts


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_frames_are_turned_as_the_container_says(tmp_path: Path, clockwise: int, mirrored: bool):
    plain = _encode(tmp_path / "plain.mp4", "libx264")

    def turn(matrix: list[int]) -> Path:
        path = tmp_path / "turned.mp4"
        with av.open(str(plain)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            stream.set_display_matrix(matrix)
            for packet in old.demux(old.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        return path

    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    flip = -1 if mirrored else 1
    one = 1 << 16
    path = turn([one * flip * cos, one * flip * sin, 0, -one * sin, one * cos, 0, 0, 0, 1 << 30])
    exam = _read(path)
    upright = _read(plain).frames[:, :, ::flip]
    assert (exam.frames == np.rot90(upright, -clockwise // 90, axes=(1, 2))).all()
    assert exam.facts.get("rotation", 0) == clockwise
    assert exam.facts.get("mirrored", 0) == mirrored
    assert (container.load(io.BytesIO(container.dumps(exam))).frames == exam.frames).all()
    with pytest.raises(UnreadableError, match="multiple of 90"):
        _read(turn([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]))


@pytest.mark.parametrize(
    ("most", "dtype"), [(255, "uint8"), (4095, "int16"), (32767, "int16"), (65535, "float32")]
)
def test_grey_keeps_its_values(tmp_path: Path, most: int, dtype: str):
    values = np.random.default_rng(0).integers(0, most + 1, (3, 16, 20))
    frames = values.astype(np.uint8 if most == 255 else np.uint16)
    frames[0, 0, 0] = most
    pixels = "gray" if most == 255 else "gray16le"
    exam = _read(_encode(tmp_path / "e.mkv", "ffv1", pixels, frames))
    assert exam.frames.dtype == dtype
    assert (exam.frames == frames).all()


@pytest.mark.parametrize("size", [(48, 64), (47, 64)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize(("name", "suffix"), [("libx264", "mp4"), ("mpeg4", "mkv")])
def test_the_colours_matrix_and_range_are_those_that_the_file_tells(
    tmp_path: Path, name: str, suffix: str, matrix: int, full: bool, size: tuple[int, int]
):
    """H.264 tells them in the stream, of MPEG-4 only the container does."""
    height, width = size
    colour = (200, 80, 40)

    def tell(output: Any, stream: Any) -> None:
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1

    red, blue = (0.2126, 0.0722) if matrix == 1 else (0.299, 0.114)
    luma = red * colour[0] + (1 - red - blue) * colour[1] + blue * colour[2]
    chroma = [(colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)]
    scale = (1, 1, 0) if full else (219 / 255, 224 / 255, 16)
    planes = [scale[0] * luma + scale[2], *(128 + scale[1] * value for value in chroma)]
    path = tmp_path / f"e.{suffix}"
    pixels = "yuv444p" if height % 2 and name == "libx264" else "yuv420p"
    options = {"qp": "0"} if name == "libx264" else {"qmin": "1", "qmax": "1"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream(name, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        tell(output, stream)
        for _ in range(3):
            frame = av.VideoFrame(width, height, pixels)
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    exam = _read(path)
    assert exam.encoded is not None
    assert exam.frames.shape == (3, height, width, 3)
    assert np.abs(exam.frames.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("name", ["libx264", "mpeg4", "libx265"])
def test_the_same_stream_is_the_same_exam_in_every_container(tmp_path: Path, name: str):
    path = _encode(tmp_path / "e.mp4", name)
    exams = [_read(path)] + [
        _read(_remux(path, tmp_path / f"e.{suffix}")) for suffix in ("mov", "mkv")
    ]
    assert len({exam_id(exam.frames) for exam in exams}) == 1


def test_frames_that_the_container_hides_are_left_out(tmp_path: Path):
    whole = _encode(tmp_path / "e.mp4", "libx264", options={"bf": "0", "g": "100"})
    cut = tmp_path / "cut.mp4"
    with (
        av.open(str(whole)) as old,
        av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        step = old.streams.video[0].duration // 12
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.pts -= 5 * step
                packet.dts -= 5 * step
                packet.stream = stream
                new.mux(packet)
    exam = _read(cut)
    assert exam.encoded is not None
    assert exam.encoded.parameters["hidden"] == [0, 1, 2, 3, 4]
    assert (exam.frames == _plain(cut)).all()
    assert (exam.frames == _read(whole).frames[5:]).all()
    assert (container.load(io.BytesIO(container.dumps(exam))).frames == exam.frames).all()


def test_a_stream_without_key_pictures_keeps_its_recovery_points(tmp_path: Path):
    options = {"x264-params": "intra-refresh=1:keyint=10:bframes=0:scenecut=0"}
    whole = _encode(tmp_path / "whole.mkv", "libx264", frames=_frames(60), options=options)
    path = tmp_path / "e.mkv"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(old.streams.video[0])):
            if packet.dts is not None and number >= 10:
                packet.stream = stream
                new.mux(packet)
    plain = _plain(path)
    exam = _read(path)
    assert 0 < len(plain) < 50
    assert exam.encoded is not None
    assert (exam.frames == plain).all()


def _cover(output: Any, stream: Any) -> None:
    beside = output.add_stream("mjpeg", rate=1)
    beside.height, beside.width, beside.pix_fmt = 16, 16, "yuvj420p"
    beside.disposition = Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
    output.start_encoding()
    for packet in beside.encode(picture) + beside.encode(None):
        output.mux(packet)


def test_a_picture_of_the_cover_is_not_the_video(tmp_path: Path):
    path = _encode(tmp_path / "e.mp4", "libx264", prepare=_cover)
    with av.open(str(path)) as source:
        assert len(source.streams.video) == 2
    assert _read(path).frames.shape == (12, 48, 64, 3)


def test_a_single_picture_is_a_video_of_one_frame(tmp_path: Path):
    path = _encode(tmp_path / "e.gif", "gif", "rgb8", _frames(1))
    assert _read(path).frames.shape == (1, 48, 64, 3)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "webm", "wmv"])
def test_no_name_in_a_container_is_stored(tmp_path: Path, suffix: str):
    def plant(output: Any, stream: Any) -> None:
        for tag in ("title", "artist", "comment", "copyright"):
            output.metadata[tag] = f"{NAME} {tag}"
        stream.metadata.update({"title": NAME, "handler_name": NAME, "language": NAME})
        if suffix in ("mp4", "mov", "mkv"):
            chapter = {"start": 0, "end": 400, "time_base": Fraction(1, 1000), "id": 1}
            output.set_chapters([chapter | {"metadata": {"title": NAME}}])
        if suffix == "mkv":
            output.add_attachment(f"{NAME}.txt", "text/plain", NAME.encode())
            words.append(output.add_mux_stream("subrip"))
        if suffix in ("mp4", "mov"):
            words.append(output.add_mux_stream("mov_text"))

    words: list[Any] = []

    def change(packet: av.Packet) -> list[av.Packet]:
        if words:
            data = NAME.encode()
            line = av.Packet(len(data) + 2)
            line.update(len(data).to_bytes(2, "big") + data)
            line.pts = line.dts = 0
            line.duration, line.time_base = 100, Fraction(1, 1000)
            line.stream = words.pop()
            line.stream.container.mux(line)
        return [packet]

    name = {"webm": "libvpx-vp9", "wmv": "wmv2", "avi": "mpeg4"}.get(suffix, "libx264")
    path = _encode(tmp_path / f"e.{suffix}", name, prepare=plant, change=change)
    content = path.read_bytes()
    assert NAME.encode() in content or NAME.encode("utf-16-le") in content
    exam = _read(path)
    assert exam.encoded is not None
    _assert_nameless(exam)


@pytest.mark.parametrize(
    ("name", "suffix", "pixels"),
    [case for case in STORED_AS_IT_IS if case[0] not in ("wmv1", "wmv2", "msmpeg4")],
)
def test_no_name_in_a_stream_is_stored(tmp_path: Path, name: str, suffix: str, pixels: str):
    """Each codec has its own place for words; those of VP8 and VP9 have none."""
    if "vpx" in name:
        return
    words = NAME.encode()
    path = tmp_path / f"e.{suffix}"
    if name == "gif":
        content = _encode(path, name, pixels).read_bytes()
        comment = b"\x21\xfe" + bytes([len(words)]) + words + b"\x00"
        path.write_bytes(content.replace(b"\x21\xf9", comment + b"\x21\xf9"))
    else:

        def plant(packet: av.Packet) -> list[av.Packet]:
            return [_replaced(packet, _planted(name, bytes(packet), words))]

        _encode(path, name, pixels, change=plant)
    assert path.read_bytes().count(words) >= 12
    exam = _read(path)
    assert exam.encoded is not None
    assert (exam.frames == _plain(path)).all()
    _assert_nameless(exam)


def _planted(name: str, packet: bytes, words: bytes) -> bytes:
    """A packet with words where its codec has room for them."""
    if name in ("libx264", "libx265"):
        header = b"\x06" if name == "libx264" else b"\x4e\x01"
        unit = header + bytes([5, 16 + len(words)]) + b"\x55" * 16 + words + b"\x80"
        return b"\x00\x00\x00\x01" + unit + packet
    if name.startswith("mpeg"):
        # Behind the headers of the sequence, before the picture itself.
        code = b"\x00\x00\x01\xb6" if name == "mpeg4" else b"\x00\x00\x01\x00"
        return packet.replace(code, b"\x00\x00\x01\xb2" + words + code, 1)
    if name == "mjpeg":
        comment = b"\xff\xfe" + (2 + len(words)).to_bytes(2, "big") + words
        return packet[:2] + comment + packet[2:]
    assert name == "libsvtav1"
    return packet + bytes([5 << 3 | 2, 1 + len(words), 4]) + words


def _assert_nameless(exam: Exam) -> None:
    stored = container.dumps(exam)
    for part in (NAME, NAME.split("^")[0], NAME.split("^")[1]):
        assert part.encode() not in stored
        assert part.encode("utf-16-le") not in stored


def test_settings_that_an_encoder_wrote_into_the_stream_are_not_stored(tmp_path: Path):
    path = _encode(tmp_path / "e.mp4", "libx264")
    assert b"cabac=" in path.read_bytes()
    stored = container.dumps(_read(path))
    assert b"cabac=" not in stored
    assert b"x264 - core" in stored


@pytest.mark.parametrize(("name", "suffix", "pixels"), STORED_AS_IT_IS + STORED_AS_SAMPLES)
def test_a_file_that_is_cut_off_is_refused_or_has_all_its_frames(
    tmp_path: Path, name: str, suffix: str, pixels: str, capfd: pytest.CaptureFixture[str]
):
    content = _encode(tmp_path / f"whole.{suffix}", name, pixels).read_bytes()
    path = tmp_path / f"{NAME}.{suffix}"
    capfd.readouterr()
    reasons = []
    for share in (0.0, 0.01, 0.2, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        try:
            found = len(_read(path).frames)
        except UnreadableError as error:
            reasons.append(str(error))
        else:
            assert found >= 11
    assert reasons
    assert "DOE" not in "".join(reasons)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "suffix", "pixels"), STORED_AS_IT_IS + STORED_AS_SAMPLES)
def test_a_file_with_damaged_bytes_is_read_or_refused_in_words(
    tmp_path: Path, name: str, suffix: str, pixels: str, capfd: pytest.CaptureFixture[str]
):
    content = _encode(tmp_path / f"whole.{suffix}", name, pixels).read_bytes()
    path = tmp_path / f"e.{suffix}"
    rng = np.random.default_rng(0)
    capfd.readouterr()
    for _ in range(30):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(content), 3)] ^= 1 << rng.integers(0, 8, dtype=np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            exam = _read(path, frames=100)
        except UnreadableError:
            continue
        assert (container.load(io.BytesIO(container.dumps(exam))).frames == exam.frames).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["libx264", "mpeg2video", "mpeg4", "mjpeg"])
def test_a_damaged_picture_is_told_with_its_place(tmp_path: Path, name: str):
    pixels = "yuvj420p" if name == "mjpeg" else "yuv420p"
    path = _encode(tmp_path / "e.mkv", name, pixels, options={"bf": "0"})
    content = path.read_bytes()
    with av.open(str(path)) as source:
        sixth = [bytes(packet) for packet in source.demux(video=0)][5]
    # Headers stay.
    half = len(sixth) // 2
    path.write_bytes(content.replace(sixth, sixth[:half] + b"\xff" * (len(sixth) - half)))
    with pytest.raises(UnreadableError, match=r"packet 6|frame 6"):
        _read(path)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"frames": 11}, "12 frames; at most 11"),
        ({"pixels": 3000}, "3,072 pixels a frame"),
        ({"memory": 100_000}, "110,592 bytes"),
    ],
)
@pytest.mark.parametrize("case", [("libx264", "mp4"), ("mpeg2video", "mpg"), ("ffv1", "mkv")])
def test_too_large_a_video_is_refused(
    tmp_path: Path, case: tuple[str, str], limits: dict[str, int], reason: str
):
    path = _encode(tmp_path / f"e.{case[1]}", case[0])
    with pytest.raises(UnreadableError, match=reason):
        _read(path, **limits)
    _read(path, frames=12, pixels=3072, memory=110_592)


@pytest.mark.parametrize(
    "first", ["#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"]
)
def test_a_list_of_other_files_is_no_video(tmp_path: Path, first: str):
    other = _encode(tmp_path / "other.mp4", "libx264")
    path = tmp_path / "e.mp4"
    path.write_text(first.format(other))
    with pytest.raises(UnreadableError):
        _read(path)


def test_sound_and_the_picture_of_its_cover_are_no_video(tmp_path: Path):
    with av.open(str(tmp_path / "e.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        _cover(output, None)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), "fltp", "mono")
        sound.sample_rate = 8000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with av.open(str(tmp_path / "e.mp4")) as source:
        assert len(source.streams.video) == 1
    with pytest.raises(UnreadableError, match="no video"):
        _read(tmp_path / "e.mp4")


def test_a_picture_by_the_name_of_a_video_is_none(tmp_path: Path):
    Image.new("L", (8, 8)).save(tmp_path / "e.mp4", "PNG")
    with pytest.raises(UnreadableError, match="not really a video"):
        _read(tmp_path / "e.mp4")


def _elementary(path: Path) -> bytes:
    """Packets only, with headers in them."""
    filters = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        wanted = filters.get(stream.codec_context.name)
        if wanted is None:
            return b"".join(bytes(packet) for packet in source.demux(stream))
        change = BitStreamFilterContext(wanted, stream)
        packets = [new for packet in source.demux(stream) for new in change.filter(packet)]
        return b"".join(map(bytes, packets))


@pytest.mark.parametrize(
    ("name", "suffix"), [("libx264", "mp4"), ("libx265", "mp4"), ("mpeg2video", "mpg")]
)
def test_a_stream_without_a_container_has_the_same_frames(tmp_path: Path, name: str, suffix: str):
    path = _encode(tmp_path / f"e.{suffix}", name)
    expected = _read(path).frames
    for data in (_elementary(path), path.read_bytes()):
        frames, encoded = video.frames_of_stream(data, Reading())
        assert (frames == expected).all()
        assert encoded is not None
        assert (codec.decode(encoded.parameters, encoded.parts) == expected).all()


def test_frames_of_two_sizes_are_refused(tmp_path: Path):
    streams = [
        _elementary(_encode(tmp_path / f"{width}.mp4", "libx264", frames=_frames(width=width)))
        for width in (64, 80)
    ]
    with pytest.raises(UnreadableError, match=r"64 by 48 .* at frame 13, 80 by 48"):
        video.frames_of_stream(b"".join(streams), Reading())


@pytest.mark.skipif(not LUNG, reason="KEYSLICE_TEST_LUNG_ULTRASOUND is not set")
def test_real_videos_go_in_whole_and_take_no_more_space_than_before():
    paths = sorted(p for p in Path(LUNG).iterdir() if p.suffix in (".mp4", ".mov", ".mpeg"))
    stored = 0
    for path in paths:
        exam = _read(path)
        assert exam.encoded is not None
        with av.open(str(path)) as source:
            assert sum(1 for _ in source.decode(video=0)) == len(exam.frames)
        stored += len(container.dumps(exam))
    assert stored <= 1.05 * sum(path.stat().st_size for path in paths)

"""Videos of the containers and codecs that FFmpeg knows; their own stream is what is stored."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from keyslice.exams.codecs import video as codec
from keyslice.exams.exam import Encoded, Exam, known_measure
from keyslice.exams.formats.video_length import refuse_if_cut_off
from keyslice.exams.source import Reading, SourceFile, UnreadableError
from keyslice.exams.stripping import bitstream

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpeg,mpegts,gif,mpegvideo,m4v,h264,hevc"
"""FFmpeg knows others, among them lists of files and addresses, which it would open."""
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
"""Pictures of a cover."""
ENCODERS = ("XVID", "DIVX", "DX50", "XVIX", "RMP4", "ZMP4", "SIPP", "UMP4", "FMP4")
"""Tags of MPEG-4 by which FFmpeg knows encoders whose faults it makes up for."""
CHANGES = ("new_extradata", "param_change", "palette")
"""What a packet may carry beside its data that decoding needs; it is not stored."""
ONE = 1 << 16
"""In a display matrix."""
ROUNDING = 2
"""Units of the container's time by which equal steps may come to differ."""


@dataclass(frozen=True)
class Video:
    """The first video stream of a file, not yet decoded.

    Args:
        stream: of a container that must stay open.
        packets: none of them empty; their numbers as times.
        times: of the packets, where known, in the stream's `time_base`.
        hidden: numbers of the packets whose frames the container says not to show.
    """

    stream: VideoStream
    packets: list[av.Packet]
    times: list[int | None]
    hidden: set[int]


def read(files: Sequence[SourceFile], reading: Reading) -> Exam:
    """Read a video: each of its coded frames once, in the order in which they are shown.

    Colour becomes 8-bit RGB, by the matrix and range that the file tells (BT.601 where it tells
    none); grey stays as it is coded. Frames are turned as the container says; pixels that are no
    squares, and interlaced lines, are left as they are. Sound, subtitles, chapters, covers and
    whatever else is in a container are not read; nor is its date, which is that of a conversion as
    often as that of the recording.

    Raises:
        UnreadableError: no video, too large, damaged or cut off, of frames of more than one size,
            or to be turned by an angle that is no multiple of 90 degrees.
        Exception: damaged otherwise.
    """
    (file,) = files
    with file.open() as content, _opened(content) as container:
        video = _video(container, reading)
        frames, numbers, encoded, first = _decoded(video, reading)
        _, rotation, mirrored = _turn(first)
        frame_time, variable = _frame_time(video, numbers)
        facts: dict[str, str | int] = {
            "coding": video.stream.codec_context.codec.canonical_name,
            "source_dtype": first.format.name,
        }
        if rotation:
            facts["rotation"] = rotation
        if mirrored:
            facts["mirrored"] = 1
        if variable:
            facts["variable_rate"] = 1
    return Exam(frames, frame_time=frame_time, facts=facts, encoded=encoded)


def frames_of_stream(data: bytes, reading: Reading) -> tuple[np.ndarray, Encoded | None]:
    """Frames of a stream without a container (MPEG-2, H.264, HEVC), or of a file in memory.

    Returns:
        (T, H, W) or (T, H, W, 3), and how to store them; None: as they are.

    Raises:
        Exception: as `read`.
    """
    with _opened(io.BytesIO(data)) as container:
        frames, _, encoded, _ = _decoded(_video(container, reading), reading)
    return frames, encoded


class _Content:
    """A file as PyAV takes it; impossible seeks are errors of FFmpeg's, not printed exceptions."""

    def __init__(self, content: BinaryIO) -> None:
        self.read, self.tell, self._content = content.read, content.tell, content

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._content.seek(offset, whence)
        except (OSError, ValueError):
            return -1


@contextmanager
def _opened(content: BinaryIO) -> Iterator[InputContainer]:
    """The container.

    Raises:
        UnreadableError: it is none, or cut off, or damaged, as soon as that is noticed.
    """
    refuse_if_cut_off(content)
    try:
        with av.open(
            _Content(content),
            "r",
            container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""},
            metadata_errors="replace",
        ) as container:
            yield container
    except FFmpegError as error:
        # Its message may hold a name.
        raise UnreadableError(
            f"cut off, damaged or not really a video: FFmpeg gives up ({type(error).__name__})"
        ) from None


def _video(container: InputContainer, reading: Reading) -> Video:
    """All packets of the first video.

    Raises:
        UnreadableError: there is none, or packets are missing, or too many.
    """
    streams = [s for s in container.streams.video if not s.disposition & NO_VIDEO]
    if not streams:
        raise UnreadableError("it holds no video")
    stream = streams[0]
    if stream.codec_context is None:
        raise UnreadableError("its video is of a codec that is not known")
    indexed = len(stream.index_entries)
    height, width = stream.codec_context.height, stream.codec_context.width
    packets, times, hidden = [], [], set()
    size = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue  # of a frame that was dropped while recording, or the end
        number = len(packets)
        if packet.is_corrupt:
            raise UnreadableError(f"cut off or damaged: packet {number + 1} is not whole")
        times.append(packet.pts)
        if packet.is_discard:
            hidden.add(number)
        packet.pts = number
        packets.append(packet)
        size += packet.size
        reading.check_size(len(packets), height, width, 1)
        reading.check_size(1, 1, 1, size)
    if len(packets) < indexed - 1:
        raise UnreadableError(
            f"cut off: of the {indexed} packets in its index, {len(packets)} are there"
        )
    return Video(stream, packets, times, hidden)


def _decoded(
    video: Video, reading: Reading
) -> tuple[np.ndarray, list[int | None], Encoded | None, VideoFrame]:
    """Frames, the numbers of their packets, how to store them, and the source's first frame."""
    source = codec.strict(video.stream.codec_context)
    first = next(codec.decoded(source, video.packets), None)
    if first is None:
        raise UnreadableError("none of its frames can be decoded")
    turn, _, _ = _turn(first)
    most = len(video.packets) - len(video.hidden)

    def check(height: int, width: int, sample_bytes: int) -> None:
        reading.check_size(most, height, width, sample_bytes)

    if stripped := _stripped(video):
        parameters, parts = stripped
        decoder = codec.context(parameters, parts[0])
        packets = codec.packets(*parts[1:])
        # Where what is left cannot be decoded, the source tells whether it can itself.
        with suppress(UnreadableError):
            frames, numbers = codec.pictures(decoder, packets, most, video.hidden, turn, check)
            same = np.array_equal(frames[0], codec.samples(first, turn))
            if same and (len(frames) == most or len(frames) == _count(video)):
                parameters |= {"frames": len(frames), "turn": [int(part) for part in turn]}
                return frames, numbers, Encoded("video", parameters, parts), first
            del frames
    source.flush_buffers()
    frames, numbers = codec.pictures(source, video.packets, most, video.hidden, turn, check)
    return frames, numbers, None, first


def _count(video: Video) -> int:
    source = video.stream.codec_context
    source.flush_buffers()
    return sum(1 for _ in codec.decoded(source, video.packets))


def _stripped(video: Video) -> tuple[dict[str, Any], tuple[bytes, bytes, bytes]] | None:
    """Parameters and parts for the codec; None where it is not certain that only pictures stay."""
    source = video.stream.codec_context
    name = source.codec.name
    if any(packet.has_sidedata(change) for packet in video.packets for change in CHANGES):
        return None
    try:
        stripped = bitstream.stripper(name, source.extradata or b"")
        if stripped is None:
            return None
        extradata, strip = stripped
        packets = [strip(bytes(packet)) for packet in video.packets]
    except (ValueError, IndexError):
        return None
    if not all(packets):
        return None
    parameters = {
        "codec": name,
        "tag": source.codec_tag if name == "mpeg4" and source.codec_tag in ENCODERS else "",
        "width": source.width,
        "height": source.height,
        "matrix": int(source.colorspace),
        "range": int(source.color_range),
        "hidden": sorted(video.hidden),
    }
    sizes = np.array([len(packet) for packet in packets], "<u4").tobytes()
    return parameters, (extradata, sizes, b"".join(packets))


def _turn(frame: VideoFrame) -> tuple[codec.Turn, int, bool]:
    """How frames are turned for viewing: for the codec; in degrees, clockwise; if mirrored before.

    Raises:
        UnreadableError: not by a multiple of 90 degrees.
    """
    told = frame.side_data.get("DISPLAYMATRIX")
    if told is None:
        return codec.AS_CODED, 0, False
    matrix = np.frombuffer(told, "=i4")
    # What is at (x, y) is shown at (ax + cy, bx + dy), but for a shift.
    exact = matrix[[0, 1, 3, 4]] / ONE
    a, b, c, d = np.rint(exact).astype(int).tolist()
    if (
        np.abs(exact - (a, b, c, d)).max() > 0.01
        or {abs(a), abs(b)} != {0, 1}
        or (abs(a) != abs(d) or abs(b) != abs(c))
    ):
        raise UnreadableError("its frames are to be turned by no multiple of 90 degrees")
    clockwise = {(0, 1): 0, (1, 0): 90, (0, -1): 180, (-1, 0): 270}[-c, d]
    return (a == 0, b + d < 0, a + c < 0), clockwise, a * d - b * c < 0


def _frame_time(video: Video, numbers: Sequence[int | None]) -> tuple[float | None, bool]:
    """Milliseconds from frame to frame, and whether they vary.

    Of equal steps the mean, which the rounding of a container's times leaves as it is; of others
    the median; without times what the file says.
    """
    times = [None if number is None else video.times[number] for number in numbers]
    known = [time for time in times if time is not None]
    unit = 1000 * (video.stream.time_base or Fraction(0))
    # AVI has no times, but a rate; those that FFmpeg makes up are wrong where frames are reordered.
    timed = len(known) == len(times) and video.stream.container.format.name != "avi"
    if not timed or len(known) < 2 or not unit:
        rate = video.stream.average_rate
        return (known_measure(float(1000 / rate)) if rate else None), False
    steps = np.diff(known)
    if np.ptp(steps) > ROUNDING:
        return known_measure(float(np.median(steps) * unit)), True
    return known_measure(float(Fraction(known[-1] - known[0], len(steps)) * unit)), False

"""A video's own stream: its coded pictures and nothing else, decoded by FFmpeg."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from keyslice.exams.source import UnreadableError

Turn = tuple[bool, bool, bool]
"""How frames are turned for viewing: whether rows and columns change places; whether rows, then
columns, run the other way after that."""
AS_CODED: Turn = (False, False, False)

EXACT = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
)
"""The same on every processor, and grey stays exact: but as slow as decoding itself."""
QUICK = Interpolation.BILINEAR
"""For 8-bit 4:2:0, the coding of nearly every video, swscale has a way of its own with this flag:
ten times as fast, at most 1 too low for grey, the same on all x86-64; elsewhere 2 may differ."""
QUICK_FORMATS = ("yuv420p", "yuvj420p")


def decode(parameters: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """See `keyslice.exams.codecs`.

    Args:
        parameters: see `context`; and `frames`, how many there are, `hidden`, the numbers of
            packets whose frames are not shown, and `turn`.
        parts: extradata (may be empty), sizes of the packets (uint32, little endian), packets.
    """
    frames, _ = pictures(
        context(parameters, parts[0]),
        packets(parts[1], parts[2]),
        parameters["frames"],
        set(parameters["hidden"]),
        tuple(parameters["turn"]),
    )
    if len(frames) != parameters["frames"]:
        raise ValueError(f"{len(frames)} frames; there were {parameters['frames']}")
    return frames


def context(parameters: Mapping[str, Any], extradata: bytes) -> VideoCodecContext:
    """A decoder.

    Args:
        parameters: `codec`, FFmpeg's name of the decoder; `tag`, four letters that tell one encoder
            from another, or empty; `width` and `height`, pixels; `matrix` and `range`, numbers of
            the colours' coding where the container tells it, as FFmpeg has them.
        extradata: headers.
    """
    made = av.CodecContext.create(parameters["codec"], "r")
    if not isinstance(made, VideoCodecContext):
        raise ValueError("no codec of videos")
    made.extradata = extradata or None
    made.width, made.height = parameters["width"], parameters["height"]
    made.colorspace, made.color_range = parameters["matrix"], parameters["range"]
    if parameters["tag"]:
        made.codec_tag = parameters["tag"]
    return strict(made)


def strict(made: VideoCodecContext) -> VideoCodecContext:
    """The same decoder, set to one thread, repeatable, and to fail where data are damaged."""
    made.thread_count = 1
    made.flags |= Flags.bitexact
    made.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
    return made


def packets(sizes: bytes, data: bytes) -> Iterator[av.Packet]:
    """The packets, their numbers as times, by which frames are known."""
    place = 0
    for number, size in enumerate(np.frombuffer(sizes, "<u4").tolist()):
        # One made from its data would lie in them, without the room behind that FFmpeg needs.
        packet = av.Packet(size)
        packet.update(data[place : place + size])
        packet.pts = number
        place += size
        yield packet


def pictures(
    decoder: VideoCodecContext,
    source: Iterable[av.Packet],
    most: int,
    hidden: set[int],
    turn: Turn = AS_CODED,
    check: Callable[[int, int, int], None] = lambda height, width, sample_bytes: None,
) -> tuple[np.ndarray, list[int | None]]:
    """Frames in the order in which they are shown.

    Args:
        decoder: not yet opened.
        source: none of them empty; their numbers as times.
        most: frames that there may be.
        hidden: numbers of packets whose frames are left out.
        turn: for viewing.
        check: called with height, width and bytes a pixel before memory is taken.

    Returns:
        (T, H, W) of grey formats, else (T, H, W, 3) of uint8; and the number of each one's packet,
        None where the decoder does not tell.

    Raises:
        UnreadableError: damaged, of more than one size or format, or without a frame.
    """
    frames = np.empty(0, np.uint8)
    numbers: list[int | None] = []
    first: tuple[int, int, str] | None = None
    convert = VideoReformatter()
    for frame in decoded(decoder, source):
        if frame.pts in hidden:
            continue
        if frame.is_corrupt:
            raise UnreadableError(f"damaged: frame {len(numbers) + 1} cannot be decoded as a whole")
        this = (frame.height, frame.width, frame.format.name)
        if first is None:
            first = this
            height, width = (this[1], this[0]) if turn[0] else this[:2]
            dtype, channels = _kind(frame.format.name)
            check(height, width, dtype.itemsize * channels)
            frames = np.empty((most, height, width, 3)[: 3 + (channels == 3)], dtype)
        if this != first:
            raise UnreadableError(
                f"its frames have more than one size or format: {first[1]} by {first[0]} pixels "
                f"({first[2]}), then, at frame {len(numbers) + 1}, {this[1]} by {this[0]} "
                f"({this[2]})"
            )
        if len(numbers) == most:
            raise UnreadableError(f"it has more frames than the {most} packets that it is made of")
        frames[len(numbers)] = samples(frame, turn, convert)
        numbers.append(frame.pts)
    if not numbers:
        raise UnreadableError("none of its frames can be decoded")
    return _lossless(frames[: len(numbers)]), numbers


def decoded(decoder: VideoCodecContext, source: Iterable[av.Packet]) -> Iterator[VideoFrame]:
    """Frames as FFmpeg gives them.

    Raises:
        UnreadableError: damaged.
    """
    number = 0
    try:
        for packet in source:
            number += 1
            yield from decoder.decode(packet)
        yield from decoder.decode(None)
    except FFmpegError as error:
        raise UnreadableError(
            f"damaged: packet {number} cannot be decoded ({type(error).__name__})"
        ) from None


def samples(
    frame: VideoFrame, turn: Turn = AS_CODED, convert: VideoReformatter | None = None
) -> np.ndarray:
    """A frame's samples, (H, W) or (H, W, 3), turned."""
    name = frame.format.name
    if name.startswith("gray"):
        array = frame.to_ndarray()
    else:
        flags = QUICK if name in QUICK_FORMATS and frame.height % 2 == 0 else EXACT
        convert = convert or VideoReformatter()
        array = convert.reformat(frame, format="rgb24", interpolation=flags, threads=1).to_ndarray()
    transposed, rows, columns = turn
    array = array.swapaxes(0, 1) if transposed else array
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def _kind(name: str) -> tuple[np.dtype, int]:
    """Type and channels of the samples of a pixel format."""
    if not name.startswith("gray"):
        return np.dtype(np.uint8), 3
    if name.startswith("grayf"):
        return np.dtype(np.float32), 1
    return np.dtype(np.uint8 if name == "gray" else np.uint16), 1


def _lossless(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint16:
        return frames
    if frames.max() <= np.iinfo(np.int16).max:
        return frames.view(np.int16)
    return frames.astype(np.float32)

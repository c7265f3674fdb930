"""Videos with words in their containers, beside their pictures, and among their coded pictures."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from . import words

SEI = {"libx264": b"\x06", "libx265": b"\x4e\x01"}
"""Headers of units of supplemental information."""
USER_DATA = {
    "mpeg1video": b"\0\0\1\0",
    "mpeg2video": b"\0\0\1\0",
    "mpeg4": b"\0\0\1\xb6",
}
"""Start codes of pictures, before which user data may stand."""
FILES: dict[str, dict[str, Any]] = {
    "a.mp4": {"codec": "libx264", "form": "mp4", "data": "bin_data"},
    "b.mov": {"codec": "mpeg4", "form": "mov"},
    "c.mpeg": {"codec": "mpeg1video", "form": "mpeg"},
    "d.mpg": {"codec": "mpeg2video", "form": "mpegts", "data": "klv"},
    "e.avi": {"codec": "mjpeg", "form": "avi", "pixels": "yuvj420p"},
    "f.mkv": {"codec": "libx265", "form": "matroska", "attached": True},
    "g.webm": {"codec": "libvpx-vp9", "form": "webm"},
    "h.wmv": {"codec": "wmv2", "form": "asf"},
    "i.avi": {"codec": "ffv1", "form": "avi"},
}
METADATA = [
    "title",
    "artist",
    "author",
    "comment",
    "description",
    "copyright",
    "album",
    "composer",
    "genre",
    "location",
    "encoder",
    "encoded_by",
    "episode_id",
    "show",
    "synopsis",
    "network",
    "date",
    "creation_time",
    "keywords",
    "performer",
]


def files(frames: np.ndarray) -> dict[str, bytes]:
    """A video for each container and codec; frames (T,H,W,3), others for each file."""
    made = {}
    for place, (name, how) in enumerate(FILES.items()):
        made[name] = _video(np.roll(frames, 3 * place, axis=1), **how) + _after(name)
    return made | {"j.gif": gif(frames[:, ::-1])}


def stream(frames: np.ndarray) -> bytes:
    """H.264 without a container."""
    return _video(frames, "libx264", "h264")


def gif(frames: np.ndarray) -> bytes:
    first, *others = map(Image.fromarray, frames)
    target = io.BytesIO()
    comment = words.name("gif_comment").encode()
    first.save(target, "gif", save_all=True, append_images=others, comment=comment)
    word = words.name("gif_application").encode()
    application = b"\x21\xff\x0bZQXWVKJHgif" + bytes([len(word)]) + word + b"\0"
    return target.getvalue()[:-1] + application + b";" + words.name("gif_end").encode() + b";"


def _video(
    frames: np.ndarray,
    codec: str,
    form: str,
    *,
    pixels: str = "yuv420p",
    data: str = "",
    attached: bool = False,
) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=form) as container:
        container.metadata.update({key: words.name(f"{form}_{key}") for key in METADATA})
        options = (
            {"x265-params": "log-level=none:pools=none:frame-threads=1"}
            if codec == "libx265"
            else {}
        )
        made = container.add_stream(codec, rate=25, options=options)
        made.height, made.width = frames.shape[1:3]
        made.pix_fmt = pixels
        made.metadata.update(
            {key: words.name(f"{form}_stream") for key in ("title", "handler_name", "comment")}
        )
        chapter = {"title": words.name(f"{form}_chapter")}
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 99, "time_base": Fraction(1, 1000), "metadata": chapter}]
        )
        if attached:
            word = words.name("attached")
            container.add_attachment(word, "text/plain", word.encode())
        beside = container.add_data_stream(data) if data else None
        pictures = (av.VideoFrame.from_ndarray(frame, "rgb24") for frame in frames)
        for picture in (*pictures, None):
            for packet in made.encode(picture):
                container.mux(_with_words(packet, codec))
        if beside is not None:
            packet = av.Packet(words.name("data_stream").encode())
            packet.stream, packet.pts, packet.dts = beside, 0, 0
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    return target.getvalue()


def _with_words(packet: av.Packet, codec: str) -> av.Packet:
    """The packet with what its codec has for remarks."""
    data, word = bytes(packet), words.name(f"{codec}_user_data").encode()
    if codec in SEI:
        registered = bytes([4, len(word) + 3, 0xB5, 0, 0x31]) + word
        unregistered = bytes([5, len(word) + 16]) + bytes(range(1, 17)) + word
        unit = SEI[codec] + registered + unregistered + b"\x80"
        data = b"\0\0\0\1" + unit + data
    elif codec in USER_DATA:
        place = data.index(USER_DATA[codec])
        data = data[:place] + b"\0\0\1\xb2" + word + data[place:]
    elif codec == "mjpeg":
        comment = b"\xff\xfe" + (len(word) + 2).to_bytes(2, "big") + word
        data = data[:2] + comment + data[2:] + word
    made = av.Packet(data)
    made.stream, made.pts, made.dts = packet.stream, packet.pts, packet.dts
    made.time_base, made.duration = packet.time_base, packet.duration
    made.is_keyframe = packet.is_keyframe
    return made


def _after(name: str) -> bytes:
    """Behind the end, where the container allows something there."""
    word = words.name("after_the_end").encode()
    if name.endswith((".mp4", ".mov")):
        return (len(word) + 8).to_bytes(4, "big") + b"free" + word
    if name.endswith(".avi"):
        return b"JUNK" + len(word).to_bytes(4, "little") + word
    return b""

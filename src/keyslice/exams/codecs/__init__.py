"""How the frames of stored exams are compressed: one module each, named in the stored file.

raw      samples, losslessly compressed by us
video    a video's own stream, packet by packet
dicom    a DICOM series' own compressed frames
images   PNG and JPEG files

Each has `decode(parameters, parts)`: frames (T,H,W) or (T,H,W,3) from what `Encoded` carries. A
reader of a compressed format makes the frames of its exam with it, so that what was hashed and
judged at ingestion is what training reads later.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

CODECS = ("raw", "video", "dicom", "images")


def decode(codec: str, parameters: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """The frames.

    Raises:
        ValueError: no such codec.
        Exception: whatever damaged data make a codec's library do.
    """
    if codec not in CODECS:
        raise ValueError(f"no codec is named {codec!r}")
    # Imported when first used: most datasets need one of them.
    return import_module(f"keyslice.exams.codecs.{codec}").decode(parameters, parts)

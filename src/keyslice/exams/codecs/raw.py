"""Samples compressed without loss, by Zstandard over bytes of equal weight together.

Before that, differences along rows are taken, or not: they make most images smaller, masks larger.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow

from keyslice.exams.exam import Encoded
from keyslice.exams.samples import LARGEST_EXACT, lossless

LEVEL = 1
"""Higher ones take several times as long for a few hundredths of the size."""
TRIED = 2**20
"""Bytes, about, that the choice is made on."""


def encode(samples: np.ndarray, *, slope: float = 1.0, intercept: float = 0.0) -> Encoded:
    """Samples (T,H,W) or (T,H,W,3) of any type of one, two or four bytes.

    Args:
        samples: as acquired.
        slope: what a header says a sample is multiplied by; …
        intercept: … and what is added then. The frames are `scaled` by these. Kept as they were
            acquired, samples take half the space of their scaled values.
    """
    plain = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("<"))
    some = plain[:: max(1, -(-plain.nbytes // TRIED))]
    tried = {delta: _compressed(some, delta) for delta in (False, True)}
    delta = len(tried[True]) < len(tried[False])
    packed = tried[delta] if len(some) == len(plain) else _compressed(plain, delta)
    parameters = {
        "dtype": plain.dtype.name,
        "shape": list(plain.shape),
        "delta": delta,
        "slope": slope,
        "intercept": intercept,
    }
    return Encoded("raw", parameters, (packed,))


def decode(parameters: Mapping[str, Any], parts: Sequence[bytes]) -> np.ndarray:
    """See `keyslice.exams.codecs`."""
    dtype, shape = np.dtype(parameters["dtype"]).newbyteorder("<"), parameters["shape"]
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    planes = np.frombuffer(pyarrow.Codec("zstd").decompress(parts[0], size, asbytes=True), np.uint8)
    content = planes.reshape(dtype.itemsize, -1).T.copy()
    samples = content.reshape(-1).view(f"<u{dtype.itemsize}").reshape(shape)
    if parameters["delta"]:
        np.cumsum(samples, axis=2, dtype=samples.dtype, out=samples)
    return scaled(samples.view(dtype), parameters["slope"], parameters["intercept"])


def meant(
    samples: np.ndarray, slope: float = 1.0, intercept: float = 0.0
) -> tuple[np.ndarray, Encoded | None]:
    """The frames that samples stand for, see `scaled`, and the samples where they take less space.

    Args:
        samples: (T,H,W) or (T,H,W,3), as acquired.
        slope: what a header says a sample is multiplied by; …
        intercept: … and what is added then.

    Raises:
        ValueError: see `samples.lossless`.
    """
    frames = np.ascontiguousarray(scaled(samples, slope, intercept))
    if samples.dtype.kind not in "iu" or samples.itemsize >= frames.itemsize:
        return frames, None
    return frames, encode(samples, slope=slope, intercept=intercept)


def scaled(samples: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Samples as their header says they are meant, of a type that exams have.

    Raises:
        ValueError: see `samples.lossless`.
    """
    if (slope, intercept) == (1.0, 0.0):
        return lossless(samples)
    if samples.dtype.kind not in "biuf":
        return lossless(samples)  # which refuses them
    whole = slope.is_integer() and intercept.is_integer()
    small = samples.itemsize <= 4 and max(abs(slope), abs(intercept)) <= LARGEST_EXACT
    if whole and small and samples.dtype.kind in "iu":  # no sum overflows
        return lossless(samples.astype(np.int64) * int(slope) + int(intercept))
    return lossless(samples.astype(np.float64) * slope + intercept)


def _compressed(plain: np.ndarray, delta: bool) -> bytes:
    values = plain.view(f"<u{plain.itemsize}")
    if delta:
        differences = values.copy()
        differences[:, :, 1:] -= values[:, :, :-1]
        values = differences
    # The high bytes of neighbouring samples are nearly equal, their low ones noise: together, the
    # former take next to nothing.
    planes = np.ascontiguousarray(values.reshape(-1).view(np.uint8).reshape(-1, plain.itemsize).T)
    return pyarrow.Codec("zstd", LEVEL).compress(planes, asbytes=True)

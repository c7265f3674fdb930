"""Samples of any numeric type as one of the types that exams have."""

import numpy as np

LARGEST_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


def lossless(frames: np.ndarray) -> np.ndarray:
    """The same values, of any shape, as uint8, int16 or float32; false and true as 0 and 1.

    Whole numbers keep their exact values. Real numbers of double precision, those that a header's
    scaling makes included, are rounded to single precision (6e-8 of the value).

    Raises:
        ValueError: whole numbers too large for float32, or samples that are no numbers.
    """
    kind, dtype = frames.dtype.kind, frames.dtype.newbyteorder("=")
    if dtype in (np.uint8, np.int16, np.float32):
        return frames.astype(dtype, copy=False)
    if kind == "b":
        return frames.astype(np.uint8)
    if kind in "iu":
        low, high = int(frames.min()), int(frames.max())
        if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
            return frames.astype(np.int16)
        if max(-low, high) <= LARGEST_EXACT:
            return frames.astype(np.float32)
        raise ValueError(f"whole numbers up to {max(-low, high)} do not fit float32 without loss")
    if kind == "f":
        with np.errstate(over="ignore"):
            return frames.astype(np.float32)
    raise ValueError(f"samples of type {dtype} are not supported; whole and real numbers are")

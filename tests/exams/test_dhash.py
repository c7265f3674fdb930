import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from keyslice.exams.dhash import difference_hash, distance

NEAR, FAR = 12, 40


def smooth(seed: int, size: int = 200) -> np.ndarray:
    """Five frames of blurred noise, round as an organ is, on an empty background."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(5, size, size)), (1, size / 20, size / 20))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    frames = np.clip(110 + 35 * noise / noise.std(), 0, 255) * (y**2 + x**2 < 0.8)
    return frames.astype(np.uint8)


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: np.stack([np.asarray(change(Image.fromarray(f))) for f in frames])


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return Image.open(buffer)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "change",
    [
        _each(_jpeg),
        _each(lambda image: image.resize((160, 160))),
        lambda frames: np.clip(frames * 1.15 + 10, 0, 255).astype(np.uint8),
        lambda frames: frames.astype(np.float32) / 255 - 3,
        lambda frames: np.stack([frames] * 3, axis=-1),
    ],
    ids=["jpeg", "smaller", "brighter", "other samples", "colour"],
)
def test_the_same_exam_lies_near(seed: int, change: Callable[[np.ndarray], np.ndarray]):
    frames = smooth(seed)
    assert distance(difference_hash(frames), difference_hash(change(frames))) <= NEAR


def test_other_exams_lie_far():
    hashes = [difference_hash(smooth(seed)) for seed in range(12)]
    assert min(distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]) >= FAR


@pytest.mark.parametrize("value", [0, 7, 255, -1024, 0.1])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 5, 7), (3, 512, 512), (2, 33, 31, 3)])
def test_constant_frames_give_zeros(value: float, shape: tuple[int, ...]):
    dtype = np.float32 if isinstance(value, float) else np.int16
    assert difference_hash(np.full(shape, value, dtype)) == "0" * 48


def test_a_bit_says_that_brightness_rises_along_the_row():
    rising = np.tile(np.arange(18, dtype=np.uint8), (1, 16, 1))
    assert difference_hash(rising) == "f" * 48
    assert difference_hash(rising[:, :, ::-1]) == "0" * 48
    half = np.concatenate([rising[:, :8], rising[:, 8:, ::-1]], axis=1)
    assert difference_hash(half) == ("f" * 8 + "0" * 8) * 3


def test_the_frames_at_each_quarter_are_looked_at():
    frames = smooth(0)[[0] * 8].copy()
    hashed = difference_hash(frames)
    for number in range(8):
        changed = frames.copy()
        changed[number] = 255 - changed[number]
        assert (difference_hash(changed) != hashed) == (number in (2, 4, 6))


def test_hashes_of_different_lengths_have_no_distance():
    with pytest.raises(ValueError, match="as many"):
        distance("00", "000")

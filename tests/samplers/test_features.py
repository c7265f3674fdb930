"""The light features, against their definitions."""

import numpy as np
import pytest
import torch
from scipy.ndimage import laplace, sobel

from keyslice.samplers.base import within
from keyslice.samplers.features import (
    Own,
    change,
    empty,
    find_empty,
    pooled,
    standardised,
    statistics,
)

LENGTHS = torch.tensor([5, 3])
OWN = Own.of(LENGTHS, within(LENGTHS, 5))


def frames_of(channels, side=20):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 5, channels, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_statistics_are_those_of_the_strided_frame(channels, stride):
    frames = frames_of(channels)
    values = statistics(frames, stride)
    seen = frames[1, 2, :, ::stride, ::stride].numpy().astype(float)
    grey = seen.mean(0)
    inner = (slice(1, -1), slice(1, -1))
    gradient = np.hypot(sobel(grey, 0), sobel(grey, 1))[inner].mean()
    expected = [seen.mean(), seen.var(), gradient, np.abs(laplace(grey))[inner].mean()]
    np.testing.assert_allclose(values[1, 2].numpy(), expected, rtol=1e-5)


def test_frames_in_floating_point_count_from_0_to_1():
    frames = frames_of(1)
    scaled = statistics(frames.float() / 255, 2)
    torch.testing.assert_close(scaled, statistics(frames, 2), rtol=1e-4, atol=1e-3)


def test_a_stride_leaves_small_frames_four_pixels():
    frames = frames_of(1, side=8)
    assert torch.equal(statistics(frames, 100), statistics(frames, 2))


def test_frames_too_small_for_edges_are_refused():
    with pytest.raises(ValueError, match="at least 3x3"):
        statistics(frames_of(1, side=2), 1)


def test_standardising_uses_the_exams_own_frames_only():
    values = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    z = standardised(values, pooled(values, OWN), OWN)
    torch.testing.assert_close(z[1, :3].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z[1, :3].std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert (z[1, 3:] == 0).all()
    own, all_own = values[1:, :3], Own.of(torch.tensor([3]), torch.ones(1, 3, dtype=torch.bool))
    alone = standardised(own, pooled(own, all_own), all_own)
    torch.testing.assert_close(alone[0], z[1, :3])


def test_a_value_that_never_changes_becomes_zero():
    values = torch.full((2, 5, 1), 7.0)
    assert standardised(values, pooled(values, OWN), OWN).abs().max() == 0


def test_pooling_takes_the_mean_of_the_exams_own_frames():
    values = torch.arange(10.0).reshape(2, 5, 1)
    assert pooled(values, OWN).flatten().tolist() == [2.0, 6.0]


def test_change_is_against_the_mean_of_the_neighbours_and_one_missing_counts_as_zero():
    values = torch.tensor([[1.0, 2.0, 6.0]])[..., None]
    assert change(values)[..., 0].tolist() == [[1 - 1, 2 - 3.5, 6 - 1]]


def test_empty_frames_are_those_whose_samples_are_all_equal():
    frames = torch.full((1, 3, 3, 4, 4), 7, dtype=torch.uint8)
    frames[0, 1, 2, 3, 3] = 8  # one sample of one channel
    frames[0, 2] = 0
    assert empty(frames).tolist() == [[True, False, True]]


@pytest.mark.parametrize("channels", [1, 3, 9])
@pytest.mark.parametrize("scaled", [False, True])
def test_no_empty_frame_has_a_gradient_beyond_rounding(channels, scaled):
    # One frame of each grey level, of a size that leaves ends to vectorised loops.
    frames = torch.arange(256, dtype=torch.uint8)[None, :, None, None, None]
    frames = frames.expand(1, 256, channels, 13, 11).clone()
    if scaled:
        frames = frames / 255
    for frame in frames.split(1, dim=1):
        found = find_empty(frame, statistics(frame, 1), torch.tensor([[True]]))
        assert found is not None
        assert found.all()


def test_what_the_stride_leaves_out_is_looked_at_before_a_frame_counts_as_empty():
    frames = torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8)
    frames[0, 1, 0, 1, 1] = 200  # between the pixels that are read
    frames[0, 2, 0, 4, 4] = 200
    values, valid = statistics(frames, 4), torch.ones(1, 3, dtype=torch.bool)
    assert values[0, 1].abs().max() == 0
    found = find_empty(frames, values, valid)
    assert found is not None
    assert found.tolist() == [[True, False, False]]
    # Padding is no reason to look.
    assert find_empty(frames, values, torch.tensor([[False, False, True]])) is None

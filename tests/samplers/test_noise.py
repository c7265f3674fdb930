"""Gumbel noise."""

import torch
from scipy.stats import gumbel_r, kstest

from keyslice.samplers.noise import exam_noise, gumbel

CPU = torch.device("cpu")


def test_samples_follow_the_gumbel_law():
    samples = gumbel((50_000,), torch.Generator().manual_seed(0))
    # False-alarm rate 1e-6.
    assert kstest(samples.numpy(), gumbel_r.cdf).pvalue > 1e-6


def test_samples_are_finite():
    assert gumbel((2_000_000,), torch.Generator().manual_seed(0)).isfinite().all()


def test_an_exams_noise_depends_on_its_own_generator_and_size_alone():
    sizes = torch.tensor([[2, 5], [3, 4]])
    both = exam_noise(sizes, (3, 6), [torch.Generator().manual_seed(s) for s in (1, 2)], CPU)
    second = exam_noise(sizes[1:], (3, 4), [torch.Generator().manual_seed(2)], CPU)
    assert torch.equal(both[1, :3, :4], second[0])
    assert (both[0, 2:] == 0).all()
    assert (both[0, :, 5:] == 0).all()

"""Samplers with nothing learned: full, random, uniform, nonempty, and DPS's pattern beside them."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from keyslice.config import SAMPLER_SETTINGS
from keyslice.samplers import build


def select(name, keep, frames, lengths, **generator):
    return build(name, keep, SAMPLER_SETTINGS[name]())(frames, lengths, **generator)


def blank(B, T):
    return torch.zeros(B, T, 1, 3, 3, dtype=torch.uint8)


def test_uniform_takes_the_middle_of_equal_parts_of_the_true_length():
    selection = select("uniform", 0.5, blank(2, 12), torch.tensor([12, 6]))
    assert selection.indices.tolist() == [[1, 3, 5, 7, 9, 11], [1, 3, 5, 0, 0, 0]]


def test_random_finds_every_subset_as_likely_as_any_other():
    draws, T, k = 20_000, 5, 2
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((draws,), T)
    chosen = select("random", k / T, blank(draws, T), lengths, generator=generator).indices
    observed = [
        int((chosen == torch.tensor(subset)).all(1).sum()) for subset in combinations(range(T), k)
    ]
    # False-alarm rate 1e-6.
    assert chisquare(observed).pvalue > 1e-6


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 10))
def test_nonempty_prefers_frames_that_show_something(shown, tenths):
    T = len(shown)
    frames = blank(1, T + 2)
    frames[0, T:, 0, 0, 0] = 9  # padding, whatever it holds, is never kept
    frames[0, :T, 0, 0, 0] = torch.tensor(shown).to(torch.uint8) * 9
    selection = select("nonempty", tenths / 10, frames, torch.tensor([T]))
    kept = selection.indices[0].tolist()
    of_those = sum(shown[t] for t in kept)
    assert len(set(kept)) == len(kept)
    assert max(kept) < T
    assert of_those == min(len(kept), sum(shown))


def test_nonempty_is_equidistant_among_the_frames_that_show_something():
    frames = blank(1, 12)
    frames[0, 2:10, 0, 1, 1] = 5
    selection = select("nonempty", 4 / 12, frames, torch.tensor([12]))
    assert selection.indices.tolist() == [[3, 5, 7, 9]]


def test_a_frame_of_one_grey_level_is_empty_whatever_the_level():
    frames = blank(1, 4)
    frames[0, 0] = 200
    frames[0, 3, 0, 0, 0] = 1
    selection = select("nonempty", 0.25, frames, torch.tensor([4]))
    assert selection.indices.tolist() == [[3]]


@pytest.mark.parametrize(("length", "T"), [(8, 8), (8, 20), (16, 16), (40, 40)])
def test_dps_lays_one_pattern_over_exams_of_any_length(length, T):
    sampler = build("dps", 0.25, SAMPLER_SETTINGS["dps"](positions=8, initial_std=0.0)).eval()
    with torch.no_grad():
        sampler.logits -= (torch.arange(8) - 6) ** 2  # best in the seventh eighth of the exam
    kept = sampler(blank(1, T), torch.tensor([length])).indices[0]
    assert len(kept) == length // 4
    assert (((kept + 0.5) / length - 6.5 / 8).abs() <= 0.125 + 0.5 / length).all()


def test_dps_takes_a_multiple_of_the_models_rate():
    sampler = build("dps", 0.5, SAMPLER_SETTINGS["dps"](logit_rate=10.0))
    assert sampler.learning_rate(1e-4, 5e-3) == pytest.approx(1e-3)

"""Positions relative to an exam's length, and counts of kept frames."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keyslice.samplers import kept_count
from keyslice.samplers.positions import centred, equidistant, interpolation, relative


@pytest.mark.parametrize(
    ("keep", "length", "kept"),
    [(0.3, 50, 15), (0.5, 7, 4), (0.25, 28, 7), (1.0, 9, 9), (0.07, 100, 7), (1e-9, 9, 1)],
)
def test_the_kept_count_rounds_up_what_was_meant(keep, length, kept):
    assert kept_count(keep, torch.tensor([length])).tolist() == [kept]


@given(st.integers(1, 1000), st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_the_kept_count_is_the_exact_ceiling(thousandths, lengths):
    exact = [math.ceil(Fraction(thousandths, 1000) * n) for n in lengths]
    assert kept_count(thousandths / 1000, torch.tensor(lengths)).tolist() == exact


@given(st.integers(1, 60), st.integers(1, 60))
def test_equidistant_places_are_distinct_spread_and_symmetric_in_spacing(n, m):
    n, m = min(n, m), max(n, m)
    places = equidistant(torch.tensor([n]), torch.tensor([m]), n)[0]
    gaps = places.diff()
    assert places.min() >= 0
    assert places.max() < m
    assert (gaps >= 1).all()
    if n > 1:
        assert gaps.max() - gaps.min() <= 1


@given(st.integers(1, 40), st.integers(1, 40))
def test_interpolation_weights_are_a_distribution_over_two_neighbours(n, bins):
    weights = interpolation(torch.tensor([n]), n, bins)[0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(n))
    assert ((weights > 0).sum(-1) <= 2).all()


@given(st.integers(1, 40))
def test_as_many_places_as_bins_take_the_bins_as_they_are(n):
    weights = interpolation(torch.tensor([n]), n, n)[0]
    torch.testing.assert_close(weights, torch.eye(n), atol=1e-5, rtol=0)


def test_interpolation_reproduces_a_straight_line_inside():
    bins, n = 8, 20
    centres = (torch.arange(bins) + 0.5) / bins
    place = (torch.arange(n) + 0.5) / n
    values = interpolation(torch.tensor([n]), n, bins)[0] @ centres
    torch.testing.assert_close(values, place.clamp(centres[0], centres[-1]))


@given(st.integers(1, 60), st.integers(1, 60))
def test_centred_places_are_relative_ones_from_minus_one_to_one(n, size):
    counts = torch.tensor([n])
    torch.testing.assert_close(centred(counts, size), 2 * relative(counts, size) - 1)

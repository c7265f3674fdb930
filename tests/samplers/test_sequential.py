"""Sequential Gumbel top-1: its law, its relaxation, its limits."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from keyslice.samplers.noise import gumbel
from keyslice.samplers.sequential import choose, open_frames, relax

FALSE_ALARM = 1e-6
"""Probability that a correct sampler fails a statistical test, were the seed drawn anew."""


@st.composite
def cases(draw):
    """Scores (B,k,T) in float64 with distinct values, and true lengths of at least k."""
    B, T = draw(st.integers(1, 3)), draw(st.integers(2, 8))
    lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    k = draw(st.integers(1, min(lengths)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    scores = torch.randn(B, k, T, dtype=torch.float64, generator=generator)
    return scores, torch.arange(T) < torch.tensor(lengths)[:, None]


def all_rows(scores):
    return torch.ones(scores.shape[:2], dtype=torch.bool)


def relaxed(scores, valid, temperature):
    return relax(scores, open_frames(choose(scores, valid), valid), all_rows(scores), temperature)


@given(cases())
def test_choices_are_distinct_and_valid(case):
    scores, valid = case
    chosen = choose(scores, valid)
    assert valid.gather(1, chosen).all()
    assert all(len(set(row)) == len(row) for row in chosen.tolist())


@given(cases())
def test_each_row_takes_the_best_frame_still_open(case):
    scores, valid = case
    for b, row in enumerate(choose(scores, valid).tolist()):
        for j, choice in enumerate(row):
            still_open = [t for t in range(scores.shape[2]) if valid[b, t] and t not in row[:j]]
            assert choice == max(still_open, key=lambda t: scores[b, j, t])


@given(cases(), st.floats(-50, 50))
def test_a_shift_of_the_scores_changes_neither_choice_nor_relaxation(case, shift):
    scores, valid = case
    assert torch.equal(choose(scores + shift, valid), choose(scores, valid))
    torch.testing.assert_close(relaxed(scores + shift, valid, 0.7), relaxed(scores, valid, 0.7))


@given(cases(), st.randoms(use_true_random=False))
def test_permuting_the_frames_permutes_choice_and_relaxation(case, random):
    scores, valid = case
    order = list(range(scores.shape[2]))
    random.shuffle(order)
    permuted = choose(scores[:, :, order], valid[:, order])
    assert torch.equal(torch.tensor(order)[permuted], choose(scores, valid))
    torch.testing.assert_close(
        relaxed(scores[:, :, order], valid[:, order], 1.0), relaxed(scores, valid, 1.0)[:, :, order]
    )


@given(cases(), st.floats(0.1, 10))
def test_relaxed_rows_are_distributions_over_the_open_frames(case, temperature):
    scores, valid = case
    soft = relaxed(scores, valid, temperature)
    torch.testing.assert_close(soft.sum(-1), torch.ones(soft.shape[:2], dtype=soft.dtype))
    assert ((soft > 0) <= open_frames(choose(scores, valid), valid)).all()


@given(cases())
def test_a_low_temperature_gives_the_hard_choice(case):
    scores, valid = case
    soft = relaxed(scores, valid, 1e-8)
    hard = torch.nn.functional.one_hot(choose(scores, valid), scores.shape[2]).double()
    torch.testing.assert_close(soft, hard)


@given(cases())
def test_a_high_temperature_gives_the_uniform_law_over_the_open_frames(case):
    scores, valid = case
    is_open = open_frames(choose(scores, valid), valid).double()
    torch.testing.assert_close(
        relaxed(scores, valid, 1e9), is_open / is_open.sum(-1, keepdim=True), atol=1e-7, rtol=0
    )


def test_each_exam_may_have_its_own_temperature():
    scores = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 5, dtype=torch.bool)
    both = relaxed(scores, valid, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(both[0], relaxed(scores[:1], valid[:1], 0.5)[0])
    torch.testing.assert_close(both[1], relaxed(scores[1:], valid[1:], 2.0)[0])


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_rows_that_an_exam_has_not_are_zero_and_pass_no_gradient():
    scores = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    valid, rows = torch.tensor([[True, True]]), torch.tensor([[True, True, False, False]])
    with torch.autograd.detect_anomaly():  # no NaN on the way either
        soft = relax(scores, open_frames(choose(scores, valid), valid), rows, 1.0)
        soft[..., 0].sum().backward()
    assert (soft[:, 2:] == 0).all()
    assert scores.grad.isfinite().all()
    assert (scores.grad[:, 2:] == 0).all()


def test_the_gradient_of_the_relaxation_with_the_noise_held_fixed():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator).requires_grad_()
    temperature = torch.tensor([0.7, 1.4], dtype=torch.float64, requires_grad=True)
    noise = gumbel((2, 3, 6), generator).double()
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    rows = torch.tensor([[True] * 3, [True, True, False]])
    is_open = open_frames(choose(logits + noise, valid), valid)
    assert torch.autograd.gradcheck(
        lambda x, tau: relax(x + noise, is_open, rows, tau), (logits, temperature)
    )


def test_the_relaxation_by_hand():
    scores = torch.tensor([[[0.0, 2.0, 1.0], [0.0, 5.0, 2.0]]]).double()
    soft = relaxed(scores, torch.tensor([[True, True, True]]), 2.0)
    e = torch.e
    first = torch.tensor([1.0, e, e**0.5]).double() / (1 + e + e**0.5)
    second = torch.tensor([1.0, 0.0, e]).double() / (1 + e)  # frame 1 was taken by the first row
    torch.testing.assert_close(soft[0], torch.stack((first, second)), rtol=1e-7, atol=0)


@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0, 0.0], [1.0, -0.5, 0.3, 0.0]])
def test_equal_rows_with_gumbel_noise_follow_the_plackett_luce_law(logits):
    draws, k = 40_000, 3
    noise = gumbel((draws, k, len(logits)), torch.Generator().manual_seed(11))
    chosen = choose(torch.tensor(logits) + noise, torch.ones(draws, len(logits), dtype=torch.bool))
    weights = torch.tensor(logits).exp().tolist()
    expected, observed = [], []
    for outcome in permutations(range(len(logits)), k):
        probability, left = 1.0, sum(weights)
        for frame in outcome:
            probability *= weights[frame] / left
            left -= weights[frame]
        expected.append(draws * probability)
        observed.append(int((chosen == torch.tensor(outcome)).all(1).sum()))
    assert chisquare(observed, expected).pvalue > FALSE_ALARM


def test_rows_with_their_own_logits_follow_the_sequential_law():
    # P(first = a, second = b) = softmax(row 0)[a] · softmax(row 1 without a)[b].
    draws = 40_000
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.5, 1.0]])
    noise = gumbel((draws, 2, 3), torch.Generator().manual_seed(12))
    chosen = choose(logits + noise, torch.ones(draws, 3, dtype=torch.bool))
    expected, observed = [], []
    for first, second in permutations(range(3), 2):
        rest = logits[1].exp().clone()
        rest[first] = 0
        probability = logits[0].softmax(0)[first] * rest[second] / rest.sum()
        expected.append(draws * probability.item())
        observed.append(int(((chosen[:, 0] == first) & (chosen[:, 1] == second)).sum()))
    scale = draws / sum(expected)  # float32 rounding
    assert chisquare(observed, [e * scale for e in expected]).pvalue > FALSE_ALARM

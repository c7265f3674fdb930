"""Attention-guided sampling: as the paper writes it, and mended."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keyslice.config import SAMPLER_SETTINGS
from keyslice.samplers import build, das
from keyslice.samplers.attention import Temperature, head_similarity
from keyslice.samplers.sequential import choose


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (8, 28, 1, 8, 8), generator=generator).float()
    contrast = torch.rand(8, 28, 1, 1, 1, generator=generator)
    return (frames * contrast).to(torch.uint8)


LENGTHS = torch.full((8,), 28)


def test_as_written_rows_draw_with_replacement():
    # Flat attention, T = 28, k = 14: 28 (1 - (27/28)^14) = 11.17 distinct frames on average.
    exams = 2000
    frames = torch.zeros(exams, 28, 1, 4, 4, dtype=torch.uint8)
    sampler = build("das_paper", 0.5, SAMPLER_SETTINGS["das_paper"]()).eval()
    generator = torch.Generator().manual_seed(0)
    selection = sampler(frames, torch.full((exams,), 28), generator=generator)
    distinct = selection.distinct.double()
    # Five standard errors: false-alarm rate 6e-7.
    assert abs(distinct.mean() - 11.17) < 5 * distinct.std() / exams**0.5 + 0.005


def test_as_written_the_ranking_is_that_of_the_variance(make, frames):
    # Scales so large that noise hardly counts: every row takes the frame of most variance.
    sampler = make("das_paper").eval()
    with torch.no_grad():
        for parameter in sampler.scales.parameters():
            parameter.abs_().mul_(100)
    selection = sampler(frames, LENGTHS, generator=torch.Generator().manual_seed(0))
    most = frames.float().var((2, 3, 4)).argmax(1)
    assert (selection.indices == most[:, None]).all()
    assert (selection.distinct == 1).all()


@torch.no_grad()
def test_mended_the_ranking_is_learned(make, frames):
    choices = {
        tuple(make("das", seed=seed).eval()(frames, LENGTHS).indices.flatten().tolist())
        for seed in range(4)
    }
    assert len(choices) == 4


def with_empty_frames(frames):
    """The same, every second frame being empty: black in one exam, grey in the next."""
    frames = frames.clone()
    frames[::2, ::2], frames[1::2, ::2] = 0, 90
    return frames


@pytest.mark.parametrize("name", ["das", "das_paper"])
def test_the_temperature_is_each_exams_own(make, frames, name):
    sampler = make(name)
    lengths = torch.tensor([28, 9, 28, 17, 28, 5, 28, 20])

    def temperature(frames, lengths):
        selection = sampler(frames, lengths, generator=torch.Generator().manual_seed(0))
        return selection.diagnostics["temperature"]

    all_frames, found = temperature(frames, LENGTHS), temperature(frames, lengths)
    assert len(found.unique()) == len(found)
    for exam, length in enumerate(lengths.tolist()):
        alone = temperature(frames[exam : exam + 1, :length], lengths[exam : exam + 1])
        torch.testing.assert_close(found[exam : exam + 1], alone)
    # It depends on the mean over the frames, which an exam twice over shares.
    torch.testing.assert_close(temperature(frames.repeat(1, 2, 1, 1, 1), LENGTHS * 2), all_frames)


def test_as_written_the_features_name_no_mean(make, frames):
    sampler = make("das_paper")
    found = [
        sampler(shifted, LENGTHS, generator=torch.Generator().manual_seed(0)).diagnostics
        for shifted in (frames // 2, frames // 2 + 100)
    ]
    torch.testing.assert_close(found[0]["temperature"], found[1]["temperature"])


@torch.no_grad()
def test_mended_no_score_brings_an_empty_frame_forward(make, frames):
    sampler = make("das", keep=0.5).eval()
    sampler.scores.weight.mul_(1000)
    chosen = sampler(with_empty_frames(frames), LENGTHS).indices
    assert (chosen % 2 == 1).all()


@pytest.mark.parametrize("training", [True, False])
def test_mended_empty_frames_are_chosen_after_all_others(make, frames, training):
    sampler = make("das", keep=0.6).train(training)
    selection = sampler(
        with_empty_frames(frames), LENGTHS, generator=torch.Generator().manual_seed(0)
    )
    assert selection.kept.tolist() == [17] * 8
    # All 14 that are not empty first, in the order of choosing, then 3 of the empty ones.
    chosen = selection.indices.gather(1, selection.order.argsort(1))
    assert (chosen[:, :14] % 2 == 1).all()
    assert (chosen[:, 14:] % 2 == 0).all()
    assert torch.isfinite(selection.soft).all()


def test_mended_empty_frames_can_be_left_to_the_ranking(make, frames):
    sampler = make("das", empty_last=False).eval()
    assert (sampler(with_empty_frames(frames), LENGTHS).indices % 2 == 0).any()


@torch.no_grad()
def test_mended_rows_can_rank_the_frames_differently(make, frames, monkeypatch):
    # Of rank one, every row would have the same noise-free order.
    sampler = make("das").eval()
    for parameter in sampler.scales.parameters():
        parameter.mul_(5)
    attention = []
    monkeypatch.setattr(das, "choose", lambda s, valid: attention.append(s) or choose(s, valid))
    sampler(frames, LENGTHS)
    assert (torch.linalg.matrix_rank(attention[0].double(), rtol=1e-4) > 1).all()
    orders = attention[0].argsort(-1)
    assert (orders != orders[:, :1]).any()


@torch.no_grad()
@given(st.permutations(range(12)))
def test_mended_without_neighbours_and_position_the_order_of_frames_does_not_matter(order):
    sampler = build("das", 0.5, SAMPLER_SETTINGS["das"]()).eval()
    # The last five inputs are the differences to the neighbours and the position.
    sampler.scores.hidden.weight[:, 8:] = 0
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (1, 12, 1, 8, 8), dtype=torch.uint8, generator=generator)
    frames[0] = (frames[0] * torch.linspace(0.1, 1, 12).reshape(12, 1, 1, 1)).to(torch.uint8)
    lengths = torch.tensor([12])
    kept = set(sampler(frames, lengths).indices[0].tolist())
    permuted = sampler(frames[:, order], lengths).indices[0].tolist()
    assert {order[t] for t in permuted} == kept


@given(st.floats(0.1, 5), st.integers(0, 1000))
def test_the_temperature_stays_within_half_and_one_and_a_half_times_its_base(base, seed):
    pooled = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed)) * 100
    tau = Temperature(3, 8, base, adaptive=True)(pooled)
    assert tau.min() >= 0.5 * base - 1e-4
    assert tau.max() <= 1.5 * base + 1e-4


@pytest.mark.parametrize("name", ["das", "das_paper"])
def test_a_fixed_temperature_is_its_base(name, make, frames):
    sampler = make(name, adaptive_temperature=False, base_temperature=0.7)
    selection = sampler(frames, LENGTHS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(selection.diagnostics["temperature"], torch.full((8,), 0.7))
    assert not any("temperature" in name for name, _ in sampler.named_parameters())


@pytest.mark.parametrize("name", ["das", "das_paper"])
def test_the_temperature_moves_no_choice(name, make, frames):
    low, high = (
        make(name, base_temperature=base)(
            frames, LENGTHS, generator=torch.Generator().manual_seed(0)
        )
        for base in (0.1, 10.0)
    )
    assert torch.equal(low.indices, high.indices)


@pytest.mark.parametrize("name", ["das", "das_paper"])
def test_one_head_has_nothing_to_be_like(name, make, frames):
    selection = make(name, heads=1)(frames, LENGTHS, generator=torch.Generator().manual_seed(0))
    assert "head_similarity" not in selection.diagnostics


def test_head_similarity_is_the_cosine_of_the_heads_attention():
    generator = torch.Generator().manual_seed(0)
    scores, scales = (torch.randn(2, 3, n, generator=generator) for n in (7, 4))
    attention = torch.einsum("bhj,bht->bhjt", scales, scores - scores.mean(-1, keepdim=True))
    flat = attention.flatten(2)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = torch.stack(
        [torch.cosine_similarity(flat[:, a], flat[:, b], dim=-1) for a, b in pairs]
    ).mean(0)
    valid, rows = (torch.ones(2, 1, n, dtype=torch.bool) for n in (7, 4))
    torch.testing.assert_close(head_similarity(scores, scales, valid, rows), expected)


def test_the_gate_is_zero_in_value_and_carries_gradient_to_the_scores(make, frames):
    sampler = make("das").train()
    selection = sampler(frames, LENGTHS, generator=torch.Generator().manual_seed(0))
    assert (selection.gate == 0).all()
    (selection.gate * torch.arange(selection.gate.shape[1])).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in sampler.scores.parameters())
    assert (
        make("das", gate=False)
        .train()(frames, LENGTHS, generator=torch.Generator().manual_seed(0))
        .gate
        is None
    )

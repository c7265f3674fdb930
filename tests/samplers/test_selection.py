"""Bringing choices into frame order."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from keyslice.samplers import Selection


@st.composite
def choices(draw):
    """Choices (B,k) of exams with k_i frames each, possibly repeated, and T."""
    T = draw(st.integers(1, 9))
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    k = max(counts)
    frame = st.integers(0, T - 1)
    chosen = [draw(st.lists(frame, min_size=k, max_size=k)) for _ in counts]
    return torch.tensor(chosen), torch.tensor(counts), T


@given(choices())
def test_sorting_the_indices_permutes_everything_along_with_them(case):
    chosen, counts, T = case
    B, k = chosen.shape
    rows = torch.arange(k) < counts[:, None]
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(B, k, T, generator=generator)
    features = torch.rand(B, k, 2, generator=generator)
    selection = Selection.from_choices(
        chosen,
        rows,
        torch.full((B,), T),
        torch.ones(B, T, dtype=torch.bool),
        soft=soft,
        features=features,
    )
    for b in range(B):
        n = int(counts[b])
        order = selection.order[b, :n]
        assert sorted(order.tolist()) == list(range(n))
        assert selection.indices[b, :n].tolist() == sorted(chosen[b, :n].tolist())
        assert torch.equal(selection.indices[b, :n], chosen[b, order])
        assert torch.equal(selection.soft[b, :n], soft[b, order])
        assert torch.equal(selection.features[b, :n], features[b, order])
        assert torch.equal(selection.matrix[b, :n].argmax(-1), selection.indices[b, :n])
        assert selection.distinct[b] == len(set(chosen[b, :n].tolist()))
    assert torch.equal(selection.matrix.sum(-1), rows.float())

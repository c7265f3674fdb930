import torch
from hypothesis import given
from hypothesis import strategies as st

from keyslice.models.attention import TemporalAttention


def _case(exams: int, kept: int, seed: int) -> tuple[TemporalAttention, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attention = TemporalAttention(6, 5).double()
        features = torch.randn(exams, kept, 6, dtype=torch.float64)
        counts = torch.randint(1, kept + 1, (exams, 1))
    return attention, features, torch.arange(kept) < counts


cases = given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 10_000))


@cases
def test_weights_are_a_distribution_over_the_frames_that_exist(exams, kept, seed):
    attention, features, mask = _case(exams, kept, seed)
    _, weights = attention(features, mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(exams, dtype=torch.float64))
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()


@cases
def test_what_lies_in_masked_places_changes_nothing(exams, kept, seed):
    attention, features, mask = _case(exams, kept, seed)
    other = torch.where(mask.unsqueeze(-1), features, 1e6)
    torch.testing.assert_close(attention(features, mask)[0], attention(other, mask)[0])


@cases
def test_the_order_of_frames_does_not_matter(exams, kept, seed):
    attention, features, mask = _case(exams, kept, seed)
    order = torch.randperm(kept, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        attention(features, mask)[0], attention(features[:, order], mask[:, order])[0]
    )


@cases
def test_the_gate_moves_no_value_and_gets_the_scores_gradient(exams, kept, seed):
    attention, features, mask = _case(exams, kept, seed)
    gate = torch.zeros(exams, kept, dtype=torch.float64, requires_grad=True)
    aggregate, _ = attention(features, mask, gate)
    assert torch.equal(aggregate, attention(features, mask)[0])
    target = torch.arange(6, dtype=torch.float64)
    (aggregate @ target).sum().backward()
    scores = attention.score(features).squeeze(-1).detach().requires_grad_()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(1)
    torch.einsum("bk,bkd,d->", weights, features, target).backward()
    torch.testing.assert_close(gate.grad, scores.grad)


@cases
def test_each_prefix_equals_the_attention_over_its_frames_alone(exams, kept, seed):
    attention, features, mask = _case(exams, kept, seed)
    prefixes = attention.prefixes(features, mask)
    for j in range(kept):
        alone = attention(features[:, : j + 1], mask[:, : j + 1])[0]
        torch.testing.assert_close(prefixes[:, j], alone)

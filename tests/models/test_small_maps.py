"""A convolution without what only meets padding is the convolution."""

import timm
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from keyslice.models.discarded.network import Start, Subsampled
from keyslice.models.small_maps import SmallMapConv2d, quicken, within


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_convolution(
    size, kernel, stride, padding, groups, bias
):
    assume(all(s + 2 * padding >= k for s, k in zip(size, kernel, strict=True)))
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Conv2d(4, 4, kernel, stride, padding, groups=groups, bias=bias).double()
    network = nn.Sequential(plain)
    x = torch.randn(3, 4, *size, generator=generator, dtype=torch.float64)
    weights = None
    found = []
    for quick in (False, True):
        if quick:
            quicken(network)
            assert isinstance(network[0], SmallMapConv2d)
        frames = x.clone().requires_grad_()
        y = network(frames)
        if weights is None:
            weights = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        network.zero_grad()
        (y * weights).sum().backward()
        gradients = [p.grad.clone() for p in network.parameters()]
        found.append([y.detach(), frames.grad, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_keeps_its_parameters_and_its_function():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("mobilenetv3_small_100", num_classes=0)
    before = dict(network.state_dict())
    x = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = network.train().forward_features(x)
    quicken(network)
    assert network.state_dict().keys() == before.keys()
    assert all(v.data_ptr() == before[k].data_ptr() for k, v in network.named_parameters())
    torch.testing.assert_close(network.forward_features(x), expected, rtol=1e-3, atol=1e-4)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(isinstance(m, SmallMapConv2d) for m in convolutions)


def _spoil(layer: nn.Conv2d) -> None:
    """All weights but the middle one: of a 1 × 1 map the quick way reads no other."""
    middle = layer.weight[..., 2, 2].clone()
    layer.weight.fill_(torch.nan)
    layer.weight[..., 2, 2] = middle


@torch.no_grad()
def test_in_evaluation_it_is_the_convolution_itself_and_quick_only_where_asked() -> None:
    layer = nn.Conv2d(1, 1, 5, padding=2)
    quicken(network := nn.Sequential(layer).eval())
    _spoil(layer)
    image = torch.ones(1, 1, 1, 1)
    assert network(image).isnan().all()
    with within():
        assert network(image).isfinite().all()
    assert network(image).isnan().all()


@torch.no_grad()
def test_the_states_of_a_network_are_quick_but_not_where_it_is_itself_among_them() -> None:
    layer, image = nn.Conv2d(1, 1, 5, padding=2), torch.ones(1, 1, 2, 2)
    quicken(module := nn.Sequential(nn.MaxPool2d(2), layer).eval())
    network = Subsampled(module, image)
    _spoil(layer)
    own, other = Start(network.origin, 0, (image,)), Start(((0, 1),), 0, (image,))
    for starts in ([own], [other, own], [other]):
        quick = own not in starts
        assert all(one.output.isfinite().all() == quick for one in network.run(starts))

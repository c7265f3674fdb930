"""The gather equals the dense straight-through product, in value and in gradient."""

import pytest
import torch

from keyslice.samplers import Normalisation, Selection
from keyslice.samplers import straight_through as module

NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
LENGTHS = torch.tensor([9, 4])
VALID = torch.arange(9) < LENGTHS[:, None]
ROWS = torch.tensor([[True, True, True], [True, True, False]])
CHOSEN = torch.tensor([[7, 2, 2], [3, 0, 0]])


def dense(matrix, frames, normalisation):
    """P·N(X), all frames converted, normalised and multiplied."""
    x = frames.double()
    if normalisation is not None:
        if not frames.is_floating_point():
            x = x / 255
        x = x.expand(-1, -1, 3, -1, -1)
        mean, std = (
            torch.tensor(v, dtype=torch.float64)[:, None, None]
            for v in (normalisation.mean, normalisation.std)
        )
        x = (x - mean) / std
    return torch.einsum("bjt,btchw->bjchw", matrix, x)


@pytest.fixture
def selection():
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(2, 3, 9, dtype=torch.float64, generator=generator)
    soft = (soft * VALID[:, None] * ROWS[..., None]).requires_grad_()
    return Selection.from_choices(CHOSEN, ROWS, LENGTHS, VALID, soft=soft)


def frames_of(channels, dtype):
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 9, channels, 5, 4), generator=generator)
    return frames.to(torch.uint8) if dtype == torch.uint8 else frames.to(dtype) / 255


@pytest.mark.parametrize("chunk", [1, 100, 2**22])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalisation", [None, NORMALISATION])
def test_equals_the_dense_product_in_value_and_gradient(
    selection, channels, dtype, normalisation, chunk, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK", chunk)
    frames = frames_of(channels, dtype)
    taken = selection.gather(frames, normalisation)
    product = dense(selection.matrix, frames, normalisation)
    torch.testing.assert_close(taken, product, rtol=1e-12, atol=1e-12)

    generator = torch.Generator().manual_seed(2)
    d_kept = torch.randn(product.shape, dtype=torch.float64, generator=generator)
    (gathered,) = torch.autograd.grad(taken, selection.soft, d_kept, retain_graph=True)
    (expected,) = torch.autograd.grad(product, selection.soft, d_kept)
    # The dense product gives padding, and rows an exam has not, a gradient that leads nowhere.
    order = selection.order[..., None].expand_as(expected)
    inside = torch.zeros_like(expected).scatter(
        1, order, (VALID[:, None] & selection.mask[..., None]).double()
    )
    torch.testing.assert_close(gathered, expected * inside, rtol=1e-11, atol=1e-11)
    assert gathered.abs().max() > 0


def test_the_gradient_by_hand():
    # One exam, two frames of one pixel, 10 and 30; frame 1 is kept; dY = 2: dP = (20, 60).
    soft = torch.tensor([[[0.4, 0.6]]], requires_grad=True)
    valid = torch.ones(1, 2, dtype=torch.bool)
    selection = Selection.from_choices(
        torch.tensor([[1]]), torch.ones(1, 1, dtype=torch.bool), torch.tensor([2]), valid, soft=soft
    )
    frames = torch.tensor([10, 30], dtype=torch.uint8).reshape(1, 2, 1, 1, 1)
    taken = selection.gather(frames)
    taken.backward(torch.full_like(taken, 2.0))
    assert taken.item() == 30
    assert soft.grad.tolist() == [[[20.0, 60.0]]]


def test_normalised_frames_lie_channels_last(selection):
    taken = selection.gather(frames_of(1, torch.uint8), NORMALISATION)
    assert taken.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_frames_not_kept_are_not_read_without_gradient(selection):
    frames = frames_of(1, torch.float64)
    frames[0, 5] = torch.nan
    with torch.no_grad():
        assert selection.gather(frames, NORMALISATION).isfinite().all()

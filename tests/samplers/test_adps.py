"""A-DPS: what it encodes, what it hands on, what it may know."""

import pytest
import torch

FRAMES, LENGTHS = 12, torch.tensor([12, 5, 1])


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(0)
    shape = (3, FRAMES, 1, 6, 6)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture
def counting(encode):
    """An encoder that remembers how many frames it was given, and whether gradients were on."""
    calls = []

    def counted(frames):
        calls.append((len(frames), torch.is_grad_enabled()))
        return encode(frames)

    counted.calls = calls
    return counted


@torch.no_grad()
def test_at_inference_each_kept_frame_is_encoded_once(make, frames, counting):
    selection = make("adps").eval()(frames, LENGTHS, encode=counting)
    assert sum(n for n, _ in counting.calls) == int(selection.kept.sum())


@torch.no_grad()
def test_the_encodings_returned_are_those_of_the_kept_frames(make, frames, encode):
    selection = make("adps").eval()(frames, LENGTHS, encode=encode)
    expected = encode(frames[torch.arange(3)[:, None], selection.indices].flatten(0, 1))
    expected = expected.unflatten(0, selection.indices.shape) * selection.mask[..., None]
    torch.testing.assert_close(selection.features, expected)


def test_in_training_encodings_steer_the_choice_only(make, frames, counting):
    generator = torch.Generator().manual_seed(0)
    selection = make("adps").train()(frames, LENGTHS, encode=counting, generator=generator)
    assert selection.features is None
    assert not any(recorded for _, recorded in counting.calls)
    # The last frame of each exam steers nothing more.
    assert sum(n for n, _ in counting.calls) == int((selection.kept - 1).sum())


@torch.no_grad()
def test_the_first_choice_is_the_same_for_all_exams_of_a_length(make, encode):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (16, 9, 1, 6, 6), dtype=torch.uint8, generator=generator)
    selection = make("adps").eval()(frames, torch.full((16,), 9), encode=encode)
    first = selection.indices[selection.order == 0]
    assert len(first.unique()) == 1


@torch.no_grad()
def test_later_choices_depend_on_what_was_kept(make, encode):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (32, 9, 1, 6, 6), dtype=torch.uint8, generator=generator)
    frames = (frames * torch.linspace(0, 1, 32).reshape(-1, 1, 1, 1, 1)).to(torch.uint8)
    sampler = make("adps").eval()
    for parameter in sampler.parameters():
        parameter.mul_(6)  # an untrained memory hardly moves
    selection = sampler(frames, torch.full((32,), 9), encode=encode)
    assert len({tuple(row) for row in selection.indices.tolist()}) > 1


def test_without_an_encoder_it_says_what_it_needs(make, frames):
    with pytest.raises(ValueError, match="pass encode="):
        make("adps")(frames, LENGTHS)

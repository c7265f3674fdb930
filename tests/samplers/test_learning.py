"""Learned samplers learn: one informative frame among many is found."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from keyslice.samplers import Normalisation

T, SIDE, KEEP = 16, 8, 0.25
NORMALISATION = Normalisation((0.5,), (0.25,))


@dataclass(frozen=True)
class Exams:
    frames: Tensor  # (N,T,1,H,W) uint8
    labels: Tensor  # (N,)
    informative: Tensor  # (N,) the one frame that tells the label

    @classmethod
    def draw(cls, n: int, seed: int, *, at: int | None = None, contrast: float = 1.0) -> "Exams":
        """Exams in which one frame holds a spot, bright or dark by label.

        The others are quiet, or textured with up to twice the spot's variance and many times its
        edges; a `contrast` below 1 turns that down.
        """
        g = torch.Generator().manual_seed(seed)
        shape = (n, T, 1, SIDE, SIDE)
        strength = torch.rand(n, T, 1, 1, 1, generator=g) * 100 * contrast
        strength[torch.rand(n, T, generator=g) < 0.3] = 0
        frames = 128 + strength * torch.randn(shape, generator=g).clamp(-1.2, 1.2)
        labels = torch.randint(0, 2, (n,), generator=g)
        informative = torch.randint(0, T, (n,), generator=g)
        if at is not None:
            informative[:] = at
        along = torch.linspace(-1, 1, SIDE)
        spot = 90 * torch.exp(-2 * (along[:, None] ** 2 + along**2))
        frames[torch.arange(n), informative] = 128 + (2 * labels - 1)[:, None, None, None] * spot
        frames += 5 * torch.randn(shape, generator=g)
        return cls(frames.clamp(0, 255).to(torch.uint8), labels, informative)


class Classifier(nn.Module):
    """A linear encoder, attention over the kept frames, a linear output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.ReLU())
        self.attention = nn.Linear(width, 1)
        self.output = nn.Linear(width, 2)

    def encode(self, frames: Tensor) -> Tensor:
        return self.encoder((frames / 255 - 0.5) / 0.25)

    def forward(self, kept: Tensor) -> Tensor:
        features = self.encoder(kept.flatten(0, 1)).unflatten(0, kept.shape[:2])
        return self.output((features * self.attention(features).softmax(1)).sum(1))


def found_after_training(sampler, train: Exams, test: Exams, steps: int) -> float:
    """Share of test exams whose informative frame is kept; chance is `KEEP`."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(width=6)
    rate = 3e-3
    optimiser = torch.optim.Adam(
        [
            {"params": classifier.parameters(), "lr": rate},
            {"params": sampler.parameters(), "lr": sampler.learning_rate(rate, rate)},
        ]
    )
    lengths = torch.full((32,), T)
    sampler.train()
    for _ in range(steps):
        batch = torch.randint(0, len(train.labels), (32,), generator=generator)
        frames = train.frames[batch]
        selection = sampler(frames, lengths, encode=classifier.encode, generator=generator)
        logits = classifier(selection.gather(frames, NORMALISATION))
        loss = nn.functional.cross_entropy(logits, train.labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    sampler.eval()
    with torch.no_grad():
        lengths = torch.full((len(test.labels),), T)
        selection = sampler(test.frames, lengths, encode=classifier.encode, generator=generator)
    return (selection.indices == test.informative[:, None]).any(1).float().mean().item()


@pytest.mark.parametrize("name", ["dps", "adps"])
def test_a_fixed_informative_position_is_found(name, make):
    train, test = Exams.draw(256, 0, at=11), Exams.draw(128, 1, at=11)
    assert found_after_training(make(name, KEEP), train, test, steps=150) > 0.95


def test_das_finds_the_informative_frame_by_its_content(make):
    train, test = Exams.draw(256, 0), Exams.draw(128, 1)
    assert found_after_training(make("das", KEEP), train, test, steps=200) > 0.9


def test_das_paper_finds_it_where_it_has_the_most_variance(make):
    train, test = Exams.draw(256, 0, contrast=0.1), Exams.draw(128, 1, contrast=0.1)
    found = found_after_training(make("das_paper", KEEP), train, test, steps=200)
    assert found > 0.9


def test_das_paper_cannot_find_it_where_distractors_have_more_variance(make):
    # Its ranking is the variance's: training sharpens the wrong one.
    train, test = Exams.draw(256, 0), Exams.draw(128, 1)
    assert found_after_training(make("das_paper", KEEP), train, test, steps=200) < 0.5

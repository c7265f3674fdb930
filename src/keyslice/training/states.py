"""Fits the attention over a network's states; the network itself stays as it was trained.

An exam's states are those that its search finds, once for all epochs: what they show lies on disk
meanwhile, in half precision where that holds it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from keyslice.config import StageSettings
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.seeding import generator, per_exam
from keyslice.models.test_time import Stack, TestTime
from keyslice.training.batches import Exams


def fit(
    looking: TestTime,
    train: Exams,
    validation: Exams,
    settings: StageSettings,
    seed: int,
    folder: Path,
) -> list[float]:
    """Give `looking.attention` the values of the epoch with the lowest validation loss.

    Where it is the search's criterion as well, it then finds other states than it learned from. So
    it is judged again with those, and the plain mean is kept where that is not below its loss.

    Args:
        looking: with an attention, which begins as the plain mean.
        train: that it learns from.
        validation: that says when to stop.
        settings: of the variant.
        seed: of the network's training.
        folder: for what the states show, which is of patients; gone in the end. What a kill left
            there is removed first.

    Returns:
        The validation loss of the plain mean, after each epoch and, where it was judged again,
        then: cross-entropy, in nats.
    """
    attention, own = looking.attention, settings.evaluate.test_time.attention
    assert attention is not None
    looking.model.requires_grad_(False)
    optimiser = torch.optim.AdamW(attention.parameters(), lr=own.learning_rate)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        learned = _Kept(looking, train, settings, seed, folder / "train")
        judged = _Kept(looking, validation, settings, seed, folder / "validation")
        losses, size = [judged.loss(settings.train.batch_size)], settings.train.batch_size
        mean = best = _copied(attention)
        for epoch in range(own.epochs):
            draws = generator("states", seed, epoch)
            for part in torch.randperm(len(train), generator=draws).split(size):
                optimiser.zero_grad()
                learned.of(part.tolist()).backward()
                optimiser.step()
            losses.append(judged.loss(size))
            if losses[-1] < min(losses[:-1]):
                best = _copied(attention)
            elif len(losses) - 1 - losses.index(min(losses)) >= own.patience:
                break
        attention.load_state_dict(best)
        if best is not mean and settings.evaluate.test_time.criterion == "learned":
            again = _Kept(looking, validation, settings, seed, folder / "again")
            losses.append(again.loss(size))
            if losses[-1] >= losses[0]:
                attention.load_state_dict(mean)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return losses


def _copied(attention: StateAttention) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in attention.state_dict().items()}


class _Kept:
    """What the states of a split's exams show, on disk."""

    def __init__(
        self, looking: TestTime, exams: Exams, settings: StageSettings, seed: int, folder: Path
    ) -> None:
        self._looking, self._exams, self._folder = looking, exams, folder
        self._shapes: list[torch.Size] = []
        self._place = next(looking.parameters()).device
        folder.mkdir(parents=True)
        for batch in exams.batches(settings.evaluate.batch_size):
            on_device = batch.to(self._place)
            draws = per_exam(seed, batch.exam_ids)
            for stack in looking.stacks(on_device.frames, on_device.lengths, draws):
                file = folder / f"{len(self._shapes)}.npy"
                half = stack.positions.half()
                held = half if bool(half.isfinite().all()) else stack.positions
                np.save(file, held.cpu().numpy(), allow_pickle=False)
                self._shapes.append(stack.shape)

    def of(self, numbers: Sequence[int]) -> Tensor:
        """The loss of some exams."""
        stacks = [self._stack(number) for number in numbers]
        frames = torch.tensor([stack.shape[0] for stack in stacks], device=self._place)
        mask = torch.arange(int(frames.max()), device=self._place) < frames[:, None]
        labels = torch.from_numpy(self._exams.labels[list(numbers)]).to(self._place)
        return cross_entropy(self._looking.attended(stacks, mask), labels)

    @torch.no_grad()
    def loss(self, size: int) -> float:
        """The mean over all of them."""
        parts = torch.arange(len(self._exams)).split(size)
        return sum(float(self.of(p.tolist())) * len(p) for p in parts) / len(self._exams)

    def _stack(self, number: int) -> Stack:
        positions = torch.from_numpy(np.load(self._folder / f"{number}.npy", allow_pickle=False))
        return Stack(positions.to(self._place, torch.get_default_dtype()), self._shapes[number])

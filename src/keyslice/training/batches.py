"""Batches of exams from the prepared store: padded to their longest, shuffled per (seed, epoch)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from keyslice.errors import UserError
from keyslice.models.seeding import generator
from keyslice.prepared import PreparedStore, pad


@dataclass(frozen=True)
class Batch:
    """Exams of one step.

    Attributes:
        frames: (B,T,C,H,W) uint8, padded at the end with empty frames.
        lengths: (B,) each exam's own number of frames.
        labels: (B,) class numbers.
        exam_ids: B ids.
    """

    frames: Tensor
    lengths: Tensor
    labels: Tensor
    exam_ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> Self:
        return type(self)(
            self.frames.to(device), self.lengths.to(device), self.labels.to(device), self.exam_ids
        )

    def __len__(self) -> int:
        return len(self.labels)


class Exams(Dataset[int]):
    """The exams of one split; an item is its row in the store, read when the batch is formed."""

    def __init__(self, store: PreparedStore, split: str, classes: Sequence[str]) -> None:
        self.store = store
        self.rows = store.where(split=split)
        number = {name: i for i, name in enumerate(classes)}
        labels = store.table["label"].iloc[self.rows]
        if unknown := sorted(set(labels) - set(number)):
            raise UserError(
                f"the exams have a label {unknown[0]!r}",
                where=f"{store.folder.name}: classes",
                rule="every label is one of the dataset's classes in params.yaml",
                remedy="name it there, or ingest again",
            )
        self.labels = np.array([number[label] for label in labels])
        self.exam_ids = tuple(store.table["exam_id"].iloc[self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: Sequence[int]) -> Batch:
        """Form the batch of these exams."""
        frames, lengths = pad([self.store.frames(self.rows[i]) for i in indices])
        return Batch(
            torch.from_numpy(frames),
            torch.from_numpy(lengths),
            torch.from_numpy(self.labels[list(indices)]),
            tuple(self.exam_ids[i] for i in indices),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All exams in the store's order."""
        for start in range(0, len(self), size):
            yield self.collate(range(start, min(start + size, len(self))))


class EpochShuffle(Sampler[int]):
    """A permutation that follows from (seed, epoch) alone, so that a resumed run sees the same."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.count, generator=generator("order", self.seed, self.epoch))
        return iter(order.tolist())


def training_loader(exams: Exams, size: int, seed: int) -> DataLoader[Batch]:
    """Shuffled batches; a last batch of one exam is left out, since BatchNorm needs two."""
    drop_last = len(exams) % size == 1 and len(exams) > size
    return _loader(exams, size, sampler=EpochShuffle(len(exams), seed), drop_last=drop_last)


def validation_loader(exams: Exams, size: int) -> DataLoader[Batch]:
    """Batches in the store's order."""
    return _loader(exams, size)


def _loader(exams: Exams, size: int, **options: Any) -> DataLoader[Any]:
    # A loader draws a number whenever it starts. Drawn from the global generator, that would give a
    # resumed epoch, whose loader starts at another moment, other dropout.
    return DataLoader(exams, size, collate_fn=exams.collate, generator=torch.Generator(), **options)

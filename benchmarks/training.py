"""A training step as the pipeline takes it against the same arithmetic in a bare torch loop."""

import time
from collections.abc import Iterator

import lightning as L
import torch
from torch.utils.data import DataLoader

from benchmarks.timing import Ratio
from benchmarks.variants import exams, network
from keyslice.config import Train
from keyslice.training.batches import Batch
from keyslice.training.device import repeatable
from keyslice.training.module import FitModule, loss
from keyslice.training.trainer import trainer

STEPS, ROUNDS = 12, 9


class _Timer(L.Callback):
    """Seconds from the first step's start to the last step's end."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.spent = time.perf_counter() - self.start


def measure() -> Iterator[list[str]]:
    """Rows of the table; with as many threads as a training has by default."""
    torch.set_num_threads(Train().threads)
    for sampler, keep in (("full", 1.0), ("das", 0.5)):
        frames, lengths = exams(16, 28, 28)
        labels = torch.arange(16) % 2
        batch = Batch(frames, lengths, labels, tuple(map(str, range(16))))
        loader = DataLoader([batch] * STEPS, batch_size=None)  # pyright: ignore[reportArgumentType]
        times: dict[str, list[float]] = {"lightning": [], "bare": []}
        for round_ in range(ROUNDS + 1):
            found = {"lightning": _lightning(sampler, keep, loader)}
            found["bare"] = _bare(sampler, keep, batch)
            if round_ > 0:  # the first is to warm up
                for name, spent in found.items():
                    times[name].append(spent)
        ratio = Ratio.of(times["lightning"], times["bare"])
        yield [
            sampler,
            f"{ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f})",
            f"{1000 * ratio.seconds / STEPS:.1f}",
            f"{1000 * ratio.reference_seconds / STEPS:.1f}",
        ]


def _module(sampler: str, keep: float) -> FitModule:
    return FitModule(network(sampler, keep, 28).train(), Train(), seed=0, classes=2)


def _lightning(sampler: str, keep: float, loader: DataLoader[Batch]) -> float:
    timer = _Timer()
    settings = Train(device="cpu", epochs=1)
    options = {"enable_checkpointing": False, "limit_val_batches": 0}
    with repeatable():
        trainer(settings, [timer], **options).fit(_module(sampler, keep), loader)
    return timer.spent


def _bare(sampler: str, keep: float, batch: Batch) -> float:
    module = _module(sampler, keep)
    model, optimiser = module.model, module.configure_optimizers()
    noise = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(STEPS):
        output = model(batch.frames, batch.lengths, noise)
        optimiser.zero_grad()
        loss(output, batch.labels).backward()
        optimiser.step()
    return time.perf_counter() - start

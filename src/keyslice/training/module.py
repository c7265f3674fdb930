"""What Lightning runs: the loss, the optimiser, and a row of figures per epoch."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from keyslice.config import Train
from keyslice.metrics import auc, balanced_accuracy, once
from keyslice.models.classifier import FrameClassifier, Output
from keyslice.models.seeding import derive, per_exam
from keyslice.samplers import monitors
from keyslice.training.batches import Batch


def loss(output: Output, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy; over all prefixes of the kept frames where the network scores them (A-DPS)."""
    if output.prefix_logits is None or output.prefix_mask is None:
        return cross_entropy(output.logits, labels, class_weights)
    # Each exam counts once, however many frames it keeps.
    mask = output.prefix_mask
    share = mask / mask.sum(1, keepdim=True)
    weights = None if class_weights is None else class_weights[labels]
    steps = cross_entropy(
        output.prefix_logits.flatten(0, 1),
        labels.repeat_interleave(mask.shape[1]),
        reduction="none",
    ).unflatten(0, mask.shape)
    per_exam_loss = (steps * share).sum(1)
    if weights is None:
        return per_exam_loss.mean()
    return (per_exam_loss * weights).sum() / weights.sum()


class FitModule(L.LightningModule):
    """One variant with one seed.

    Args:
        model: the network.
        settings: section `train`.
        seed: of the run; noise, dropout and order of every epoch derive from it.
        classes: number of classes.
        class_weights: (classes,), or None.
    """

    def __init__(
        self,
        model: FrameClassifier,
        settings: Train,
        *,
        seed: int,
        classes: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.seed = seed
        self.classes = classes
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.noise = torch.Generator()
        self.history: list[dict[str, float]] = []
        self._train_losses: list[tuple[Tensor, int]] = []
        self._monitored: list[dict[str, Tensor]] = []
        self._validation: list[tuple[Tensor, Tensor, Tensor]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.settings
        sampler = self.model.sampler
        rate = sampler.learning_rate(settings.learning_rate, settings.sampler_learning_rate)
        own = list(sampler.parameters())
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("sampler.")]
        groups = [{"params": rest}, *([{"params": own, "lr": rate}] if own else [])]
        return torch.optim.Adam(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator; `fit_seed` restores it afterwards.
        torch.manual_seed(derive("dropout", self.seed, self.current_epoch))
        self.noise.manual_seed(derive("noise", self.seed, self.current_epoch))
        self._monitored.clear()
        self._train_losses.clear()

    def training_step(self, batch: Batch) -> Tensor:
        output = self.model(batch.frames, batch.lengths, self.noise)
        value = loss(output, batch.labels, self.class_weights)  # pyright: ignore
        self._monitored.append(monitors.per_exam(output.selection))
        self._train_losses.append((value.detach(), len(batch)))
        return value

    def validation_step(self, batch: Batch) -> None:
        generators = per_exam(self.seed, batch.exam_ids)
        output = self.model(batch.frames, batch.lengths, generators)
        losses = cross_entropy(output.logits, batch.labels, reduction="none")
        # In double, as at inference: in float32 confident predictions tie at 1.
        probabilities = output.logits.double().softmax(1)
        self._validation.append((probabilities.cpu(), batch.labels.cpu(), losses.cpu()))

    def on_validation_epoch_end(self) -> None:
        probabilities, labels, losses = map(torch.cat, zip(*self._validation, strict=True))
        self._validation.clear()
        validation_loss = self._weighted(losses, labels)
        self.log("validation_loss", validation_loss)
        exams = sum(count for _, count in self._train_losses)
        self.history.append(
            {
                "epoch": float(self.current_epoch),
                "train_loss": sum(v.item() * n for v, n in self._train_losses) / exams,
                "validation_loss": float(validation_loss),
                **_scores(probabilities, labels),
                **monitor_row(monitors.figures(self._monitored)),
            }
        )

    def _weighted(self, losses: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return losses.mean()
        weights = self.class_weights.cpu()[labels]  # pyright: ignore[reportIndexIssue]
        return (losses * weights).sum() / weights.sum()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.history = list(checkpoint["history"])


def _scores(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Of an epoch's validation exams."""
    found = labels.numpy(), probabilities.numpy(), once(len(labels))
    return {
        "validation_auc": float(auc(*found)[0]),
        "validation_balanced_accuracy": float(balanced_accuracy(*found)[0]),
    }


def monitor_row(figures: monitors.Figures) -> dict[str, float]:
    """Monitors as columns of history.csv; those that the sampler does not have are left out."""
    row = {name: value for name, value in asdict(figures).items() if isinstance(value, float)}
    return row | {f"position_{i}": share for i, share in enumerate(figures.positions)}


def monitor_figures(row: Mapping[str, float]) -> monitors.Figures:
    """The inverse of `monitor_row`."""
    names = {field.name for field in fields(monitors.Figures)} - {"positions"}
    positions = tuple(row[f"position_{i}"] for i in range(monitors.BINS))
    return monitors.Figures(positions=positions, **{n: row[n] for n in names if n in row})


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,), inverse to each class's frequency, 1 on average over the exams."""
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts.float())

"""`python -m benchmarks.offsets DATASET VARIANT`: what one offset costs a trained network in AUC.

On its validation exams, level by level, with the border as the method has it and kept; and beside
them what it costs to shift the frames themselves, with zeros coming in and with their edge going
on. So one sees whether it is the other phase that a network cannot do with, or its border.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from keyslice.config import StageSettings, Workspace, load
from keyslice.metrics import auc, once
from keyslice.models.classifier import FrameClassifier
from keyslice.models.discarded import Subsampled
from keyslice.models.discarded.phase import Border
from keyslice.models.inference import infer
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import trained, unseen

BORDERS: tuple[Border, ...] = ("zeros", "kept")
SHIFTS = (1, 2, 4)
"""Pixels of the image."""


def main() -> None:
    """Print a table of the mean over seeds and offsets, and the least and the most."""
    workspace = Workspace.find()
    dataset, variant = sys.argv[1:]
    settings = load(workspace.params).stage(dataset, variant)
    store = PreparedStore.open(workspace.prepared(dataset))
    found: dict[str, dict[str, list[float]]] = {}
    for seed in settings.train.seeds:
        model = trained(workspace, settings, seed)
        for what, border, change in changes(model, store, settings, seed):
            found.setdefault(what, {}).setdefault(border, []).append(change)
    print(f"{dataset}, {variant}: change in AUC on validation exams\n")
    print("| what | zeros at the border | the border goes on |\n| :-- | --: | --: |")
    for what, by_border in found.items():
        print(f"| {what} | {' | '.join(_told(by_border[border]) for border in BORDERS)} |")


def changes(
    model: FrameClassifier, store: PreparedStore, settings: StageSettings, seed: int
) -> Iterator[tuple[str, Border, float]]:
    """What is changed, with which border, and the change in AUC; an item for each offset."""
    size = settings.prepare.image_size
    backbone, example = model.backbone, torch.zeros(1, 3, size, size)
    itself: Any = backbone.network.forward_features
    before = _auc(model, store, settings, seed)

    def change(run: Callable[[Tensor], Tensor]) -> float:
        model.backbone = _Changed(backbone, run)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return _auc(model, store, settings, seed) - before
        finally:
            model.backbone = backbone

    for border in BORDERS:
        network = Subsampled(backbone.network, example, border=border, method="forward_features")
        for number, level in enumerate(network.levels):
            pixels = " × ".join(map(str, level.scale))
            for offset in level.offsets[1:]:
                state = [*network.origin]
                state[number] = offset
                found = change(partial(network, state=tuple(state)))
                yield f"an offset of level {number + 1} ({pixels} pixels)", border, found
        for shift in SHIFTS:
            for down, right in ((0, shift), (shift, 0), (shift, shift)):
                moved = partial(_moved, down=down, right=right, border=border)
                found = change(lambda frames, moved=moved: itself(moved(frames)))
                yield f"the frames shifted by {shift}", border, found


class _Changed(nn.Module):
    """A backbone whose last maps come from elsewhere."""

    def __init__(self, backbone: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._backbone, self._run = backbone, run

    def forward(self, frames: Tensor) -> Tensor:
        pool: Any = self._backbone.pool
        return pool(self._run(frames))


def _moved(frames: Tensor, *, down: int, right: int, border: Border) -> Tensor:
    """As an offset moves them; they are normalised, so that zero is the mean of what they show."""
    longer = pad(frames, (0, right, 0, down), mode="replicate" if border == "kept" else "constant")
    return longer[..., down:, right:]


def _auc(model: FrameClassifier, store: PreparedStore, settings: StageSettings, seed: int) -> float:
    """On validation exams."""
    probabilities, labels = list[list[float]](), list[int]()
    for batch, known in unseen(store, settings):
        if known[0]["split"] != "validation":
            break
        found = infer(model, batch.frames, batch.lengths, batch.exam_ids, seed)
        probabilities += [one.probabilities for one in found]
        labels += [facts["label"] for facts in known]
    return float(auc(np.array(labels), np.array(probabilities), once(len(labels)))[0])


def _told(found: list[float]) -> str:
    return f"{np.mean(found):+.3f} ({min(found):+.3f} to {max(found):+.3f})".replace("-", "−")


if __name__ == "__main__":
    main()

"""A package on stored exams: class probabilities, and what each exam costs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from keyslice.models.predictor import Predictor


def outcomes(
    package: Path, batches: Iterable[list[np.ndarray]]
) -> Iterator[tuple[list[float], float]]:
    """Predict exams given as frames (T,H,W) or (T,H,W,3), as acquired.

    Args:
        package: its folder.
        batches: of exams; one batch is held in memory at a time.

    Yields:
        For each exam the probabilities in the order of the package's classes, and its
        multiply-accumulates.

    Raises:
        UserError: the folder holds no package.
    """
    predictor = Predictor.load(package)
    torch.set_num_threads(predictor.settings.train.threads)  # as the evaluation had
    for batch in batches:
        for prediction, macs in predictor.measured(batch):
            classes = predictor.settings.classes
            yield [prediction.probabilities[name] for name in classes], macs

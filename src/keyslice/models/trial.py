"""A package on stored exams: class probabilities, and what each exam costs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from keyslice.models.inference import multiply_accumulates
from keyslice.models.predictor import Predictor, channels_first
from keyslice.prepared import prepare_frames


def outcomes(
    package: Path, batches: Iterable[list[np.ndarray]]
) -> Iterator[tuple[list[float], int]]:
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
    costs: dict[tuple[int, ...], int] = {}
    for batch in batches:
        for prediction, frames in zip(predictor.predict_arrays(batch), batch, strict=True):
            if frames.shape not in costs:
                prepared, _ = prepare_frames(frames, predictor.settings.prepare)
                one = torch.from_numpy(channels_first(prepared)[None])
                costs[frames.shape] = multiply_accumulates(predictor.model, one)
            classes = predictor.settings.classes
            yield [prediction.probabilities[name] for name in classes], costs[frames.shape]

"""A package on stored exams: class probabilities, and what each exam costs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from keyslice.models.predictor import Predictor


class Outcome(NamedTuple):
    """What a package makes of an exam.

    Attributes:
        probabilities: in the order of its classes.
        macs: multiply-accumulates.
        plain: probabilities by one look, where it looks more than once; else the same.
    """

    probabilities: list[float]
    macs: float
    plain: list[float]


def outcomes(package: Path, batches: Iterable[list[np.ndarray]]) -> Iterator[Outcome]:
    """Predict exams given as frames (T,H,W) or (T,H,W,3), as acquired.

    Args:
        package: its folder.
        batches: of exams; one batch is held in memory at a time.

    Yields:
        One for each exam.

    Raises:
        UserError: the folder holds no package.
    """
    predictor = Predictor.load(package)
    torch.set_num_threads(predictor.settings.train.threads)  # as the evaluation had
    classes, often = predictor.settings.classes, predictor.settings.evaluate.test_time.active
    for batch in batches:
        found = [(one.probabilities, macs) for one, macs in predictor.measured(batch)]
        once = [one.probabilities for one in predictor.looking_once(batch)] if often else None
        plain = once or [probabilities for probabilities, _ in found]
        for (probabilities, macs), first in zip(found, plain, strict=True):
            values = [[one[name] for name in classes] for one in (probabilities, first)]
            yield Outcome(values[0], macs, values[1])

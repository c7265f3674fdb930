"""A trained network on exams: probabilities, the frames it looked at, and what that cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from keyslice.models.classifier import FrameClassifier, Output
from keyslice.models.seeding import per_exam
from keyslice.models.test_time import TestTime


@dataclass(frozen=True)
class ExamOutput:
    """Of one exam: class probabilities, kept frame numbers in order, the weight of each."""

    probabilities: list[float]
    kept: list[int]
    attention: list[float]


@torch.inference_mode()
def infer(
    model: FrameClassifier | TestTime,
    frames: Tensor,
    lengths: Tensor,
    exam_ids: Sequence[str],
    seed: int,
) -> list[ExamOutput]:
    """Predict a batch.

    Args:
        model: in evaluation mode; its device is where the work is done.
        frames: (B,T,C,H,W) uint8, padded.
        lengths: (B,) each exam's own number of frames.
        exam_ids: B ids; with `seed` they fix the draws of samplers that draw at inference.
        seed: the model's.
    """
    place = next(model.parameters()).device
    return by_exam(model(frames.to(place), lengths.to(place), per_exam(seed, exam_ids)))


def by_exam(output: Output) -> list[ExamOutput]:
    """A batch's output, exam by exam."""
    probabilities = output.logits.double().softmax(1).tolist()
    selection = output.selection
    return [
        ExamOutput(
            probabilities[b],
            selection.indices[b][selection.mask[b]].tolist(),
            output.attention[b][selection.mask[b]].tolist(),
        )
        for b in range(len(probabilities))
    ]


class Meter:
    """Predicts exams, and tells what each has cost.

    What a classifier that looks once spends depends on an exam's shape alone, and is counted once
    for each. A search takes another way for each exam: there a batch is counted as it is predicted,
    and shared out by the frames that were kept.

    Args:
        model: in evaluation mode.
        seed: the model's.
    """

    def __init__(self, model: FrameClassifier | TestTime, seed: int) -> None:
        self._model, self._seed = model, seed
        self._costs: dict[tuple[int, ...], int] = {}

    def __call__(
        self, frames: Tensor, lengths: Tensor, exam_ids: Sequence[str]
    ) -> list[tuple[ExamOutput, float]]:
        """See `infer`; the second is in multiply-accumulates."""
        if isinstance(self._model, TestTime):
            with FlopCounterMode(display=False) as counter:
                outputs = infer(self._model, frames, lengths, exam_ids, self._seed)
            each = counter.get_total_flops() / 2 / sum(len(output.kept) for output in outputs)
            return [(output, each * len(output.kept)) for output in outputs]
        outputs = infer(self._model, frames, lengths, exam_ids, self._seed)
        return [
            (output, float(self._cost(frames[b : b + 1, : int(lengths[b])])))
            for b, output in enumerate(outputs)
        ]

    def _cost(self, exam: Tensor) -> int:
        shape = tuple(exam.shape)
        if shape not in self._costs:
            self._costs[shape] = multiply_accumulates(self._model, exam)
        return self._costs[shape]


@torch.inference_mode()
def multiply_accumulates(model: FrameClassifier | TestTime, frames: Tensor) -> int:
    """Multiply-accumulates of one exam (1,T,C,H,W): sampler, backbone, attention and head.

    Convolutions and matrix products count, as in the field's tables; element-wise work does not.
    """
    place = next(model.parameters()).device
    lengths = torch.tensor([frames.shape[1]], device=place)
    with FlopCounterMode(display=False) as counter:
        model(frames.to(place), lengths, per_exam(0, ["cost"]))
    return counter.get_total_flops() // 2

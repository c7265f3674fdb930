"""A model package in use: exams in, probabilities and kept frames out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from keyslice.config import StageSettings
from keyslice.errors import UserError
from keyslice.exams.exam import Exam, exam_id, from_other_end
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading, UnreadableError, printable
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier
from keyslice.models.inference import ExamOutput, Meter, infer
from keyslice.models.test_time import TestTime, looking
from keyslice.prepared import check_eight_bit, pad, prepare_frames, thinned

STATE_ATTENTION = "state_attention.safetensors"
"""In a package: the attention over the states of a network that looks more than once."""


@dataclass(frozen=True)
class Prediction:
    """Of one exam.

    Attributes:
        probabilities: by class name.
        kept: ascending numbers of the frames that the model looked at, from 0, in the exam as it
            was given: in the file's or the array's own order.
        attention: the weight that each of them had.
        plane: of a file's slices: axial, coronal or sagittal; None of a video or an array.
        above_threshold: the classes whose probability reaches their operating threshold; with more
            than two classes there may be several, or none.
    """

    probabilities: dict[str, float]
    kept: list[int]
    attention: list[float]
    plane: str | None = None
    above_threshold: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    def as_dict(self) -> dict[str, Any]:
        return {"label": self.label, **asdict(self)}


class Predictor:
    """A trained network with the preprocessing that it was trained with.

    Args:
        model: in evaluation mode.
        settings: those it was trained with.
        seed: of its training; fixes the draws of samplers that draw at inference.
        slice_axis: of 3-D images; see `FolderDataset.slice_axis`.
        thresholds: probability from which an exam is positive, by class; a class may have none.
    """

    def __init__(
        self,
        model: FrameClassifier | TestTime,
        settings: StageSettings,
        seed: int,
        slice_axis: Literal["auto", 0, 1, 2] = "auto",
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.seed = seed
        self.thresholds = dict(thresholds or {})
        self._reading = Reading(slice_axis)

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Open a package: package.json, model.safetensors, and what was learned for test time.

        Raises:
            UserError: the folder holds no package, or its numbers are not there, no safetensors, or
                another model's.
        """
        try:
            description = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("holds no package.json", where=str(folder)) from None
        settings = StageSettings.model_validate(description["settings"])
        training, file = description["training"], "model.safetensors"
        try:
            model = build.load(
                settings,
                folder / file,
                weights_file=training["started_from"]["source"],
            )
            file = STATE_ATTENTION
            own, size = settings.evaluate.test_time, settings.prepare.image_size
            model = looking(model, own, size, folder / file)
        except (SafetensorError, FileNotFoundError):
            raise _unusable(folder, f"{file} is missing, or no safetensors file") from None
        except RuntimeError:  # names or shapes of its tensors
            raise _unusable(folder, f"{file} is not of this model") from None
        thresholds = {
            name: found["threshold"]
            for name, found in description["thresholds"]["classes"].items()
            if found is not None
        }
        return cls(model, settings, training["seed"], description["slice_axis"], thresholds)

    def predict_files(self, paths: Iterable[Path]) -> list[Prediction]:
        """Predict exam files of any known format.

        Raises:
            UserError: a file is missing or cannot be read as an exam.
        """
        found: list[Prediction] = []
        for one in self.predict_each(paths):
            if isinstance(one, UserError):
                raise one
            found.append(one)
        return found

    def predict_each(self, paths: Iterable[Path]) -> Iterator[Prediction | UserError]:
        """Predict exam files one after the other; memory holds a batch of them.

        Yields:
            For each file its prediction, or the error where it is missing or cannot be read.
        """
        paths = list(paths)
        size = self.settings.evaluate.batch_size
        for start in range(0, len(paths), size):
            read = [self._read(path) for path in paths[start : start + size]]
            exams = [one for one in read if isinstance(one, Exam)]
            predictions = iter(self._batch([one.frames for one in exams]) if exams else ())
            for one in read:
                yield _as_in_file(next(predictions), one) if isinstance(one, Exam) else one

    def predict_arrays(self, exams: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict exams given as frames (T,H,W) or (T,H,W,3), as acquired."""
        size = self.settings.evaluate.batch_size
        return [
            prediction
            for start in range(0, len(exams), size)
            for prediction in self._batch(exams[start : start + size])
        ]

    def measured(self, exams: Sequence[np.ndarray]) -> Iterator[tuple[Prediction, float]]:
        """Predict exams as `predict_arrays` does, each with its multiply-accumulates."""
        size, meter = self.settings.evaluate.batch_size, Meter(self.model, self.seed)
        for start in range(0, len(exams), size):
            part = exams[start : start + size]
            for exam, (output, macs) in zip(part, meter(*self._prepared(part)), strict=True):
                yield self._prediction(output, exam), macs

    def looking_once(self, exams: Sequence[np.ndarray]) -> Iterator[Prediction]:
        """Predict exams as the network alone does, without what else it looks at."""
        network = self.model.model if isinstance(self.model, TestTime) else self.model
        size = self.settings.evaluate.batch_size
        for start in range(0, len(exams), size):
            part = exams[start : start + size]
            outputs = infer(network, *self._prepared(part), self.seed)
            yield from (self._prediction(*one) for one in zip(outputs, part, strict=True))

    def _batch(self, exams: Sequence[np.ndarray]) -> list[Prediction]:
        outputs = infer(self.model, *self._prepared(exams), self.seed)
        return [self._prediction(*one) for one in zip(outputs, exams, strict=True)]

    def _prepared(self, exams: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, list[str]]:
        """Frames and lengths of a batch, and the exams' ids."""
        settings = self.settings.prepare
        frames, lengths = pad([channels_first(prepare_frames(one, settings)[0]) for one in exams])
        return torch.from_numpy(frames), torch.from_numpy(lengths), [exam_id(one) for one in exams]

    def _prediction(self, output: ExamOutput, exam: np.ndarray) -> Prediction:
        original = thinned(len(exam), self.settings.prepare.max_frames)
        probabilities = dict(zip(self.settings.classes, output.probabilities, strict=True))
        return Prediction(
            probabilities,
            original[output.kept].tolist(),
            output.attention,
            above_threshold=[n for n, t in self.thresholds.items() if probabilities[n] >= t],
        )

    def _read(self, path: Path) -> Exam | UserError:
        name = printable(str(path))
        if not path.exists():
            return UserError("no such file", where=name, remedy="mend the path")
        try:
            exam = open_exam(path, self._reading)
            check_eight_bit(exam.frames.dtype.name, self.settings.prepare.intensity)
        except UnreadableError as error:
            return UserError(str(error), where=name, remedy="give a path that holds one whole exam")
        except UserError as error:
            return error
        return exam


def _unusable(folder: Path, what: str) -> UserError:
    return UserError(
        what,
        where=str(folder),
        rule="a package's numbers are those that it was made with",
        remedy="restore the package from a backup",
    )


def _as_in_file(prediction: Prediction, exam: Exam) -> Prediction:
    """A prediction of the exam's frames, with frame numbers in the order of its file."""
    if not exam.reversed:
        return replace(prediction, plane=exam.plane)
    return replace(
        prediction,
        kept=from_other_end(prediction.kept, len(exam.frames)),
        attention=prediction.attention[::-1],
        plane=exam.plane,
    )


def channels_first(frames: np.ndarray) -> np.ndarray:
    """(T,H,W) or (T,H,W,3) to (T,C,H,W)."""
    return frames[:, None] if frames.ndim == 3 else np.moveaxis(frames, 3, 1)

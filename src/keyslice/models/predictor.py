"""A model package in use: exams in, probabilities and kept frames out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keyslice.config import StageSettings
from keyslice.errors import UserError
from keyslice.exams.exam import exam_id
from keyslice.exams.readers import read
from keyslice.exams.source import UnreadableError
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier
from keyslice.models.inference import ExamOutput, infer
from keyslice.prepared import pad, prepare_frames, thinned


@dataclass(frozen=True)
class Prediction:
    """Of one exam.

    Attributes:
        probabilities: by class name.
        kept: numbers of the frames that the model looked at, in the exam as it was given.
        attention: the weight that each of them had.
    """

    probabilities: dict[str, float]
    kept: list[int]
    attention: list[float]

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
    """

    def __init__(
        self,
        model: FrameClassifier,
        settings: StageSettings,
        seed: int,
        slice_axis: int | str = "auto",
    ) -> None:
        self.model = model
        self.settings = settings
        self.seed = seed
        self.slice_axis = slice_axis

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Open a package: package.json and model.safetensors.

        Raises:
            UserError: the folder holds no package.
        """
        try:
            description = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("holds no package.json", where=str(folder)) from None
        settings = StageSettings.model_validate(description["settings"])
        model = build.load(
            settings,
            folder / "model.safetensors",
            weights_file=description["weights"]["source"],
        )
        return cls(model, settings, description["seed"], description.get("slice_axis", "auto"))

    def predict_files(self, paths: Iterable[Path]) -> list[Prediction]:
        """Predict exam files of any known format.

        Raises:
            UserError: a file is missing or cannot be read as an exam.
        """
        return self.predict_arrays([self._read(path) for path in paths])

    def predict_arrays(self, exams: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict exams given as frames (T,H,W) or (T,H,W,3), as acquired."""
        size = self.settings.evaluate.batch_size
        return [
            prediction
            for start in range(0, len(exams), size)
            for prediction in self._batch(exams[start : start + size])
        ]

    def _batch(self, exams: Sequence[np.ndarray]) -> list[Prediction]:
        settings = self.settings.prepare
        prepared = [_channels_first(prepare_frames(exam, settings)[0]) for exam in exams]
        frames, lengths = pad(prepared)
        outputs = infer(
            self.model,
            torch.from_numpy(frames),
            torch.from_numpy(lengths),
            [exam_id(exam) for exam in exams],
            self.seed,
        )
        originals = [thinned(len(exam), settings.max_frames) for exam in exams]
        return [
            self._prediction(output, original)
            for output, original in zip(outputs, originals, strict=True)
        ]

    def _prediction(self, output: ExamOutput, original: np.ndarray) -> Prediction:
        classes = self.settings.classes
        return Prediction(
            dict(zip(classes, output.probabilities, strict=True)),
            original[output.kept].tolist(),
            output.attention,
        )

    def _read(self, path: Path) -> np.ndarray:
        if not path.is_file():
            raise UserError("no such file", where=str(path), remedy="mend the path")
        try:
            return read(path, self.slice_axis).frames
        except UnreadableError as error:
            raise UserError(str(error), where=str(path), remedy="give a whole exam file") from None


def _channels_first(frames: np.ndarray) -> np.ndarray:
    """(T,H,W) or (T,H,W,3) to (T,C,H,W)."""
    return frames[:, None] if frames.ndim == 3 else np.moveaxis(frames, 3, 1)

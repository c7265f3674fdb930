"""What MLflow calls to load a package: its `loader_module`. The package itself holds no code."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from keyslice.errors import UserError
from keyslice.exams.exam import DTYPES, Exam
from keyslice.registry import package

if TYPE_CHECKING:
    from keyslice.models.predictor import Prediction, Predictor

FILE, FRAMES = "file", "frames"
DTYPE, SAMPLES = "dtype", "samples"
LABEL, PROBABILITY, KEPT, ATTENTION = "label", "probability", "kept", "attention"
ABOVE = "above_threshold"


class ExamModel:
    """A predictor behind MLflow's interface."""

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per exam: label, above_threshold, probability.<class> for each, kept, attention.

        Args:
            model_input: a table with a column `file` (paths of exams) or a column `frames` (arrays
                (T,H,W) or (T,H,W,3); in JSON, see `frames_of`); or, called directly, an array
                (B,T,H,W) or (B,T,H,W,3).
            params: none are known.

        Raises:
            MlflowException: neither column is there, or both; or a file or frames are no exam. A
                server answers 400 with its sentence; to any other error, with a stack trace.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import BAD_REQUEST

        try:
            return table(self._predictions(model_input))
        except (UserError, ValueError) as error:
            raise MlflowException(str(error), BAD_REQUEST) from None

    def _predictions(self, model_input: Any) -> "list[Prediction]":
        if isinstance(model_input, np.ndarray):
            return self._predictor.predict_arrays(_checked(model_input))
        columns = [name for name in (FILE, FRAMES) if name in model_input]
        if len(columns) != 1:
            raise ValueError(
                f"give one of the columns {FILE!r} (paths) and {FRAMES!r} (arrays), "
                f"got {list(model_input)}"
            )
        values = list(model_input[columns[0]])
        if columns == [FILE]:
            return self._predictor.predict_files(_paths(values))
        return self._predictor.predict_arrays(_checked(values))


def frames_of(value: Any) -> np.ndarray:
    """Frames (T,H,W) or (T,H,W,3) of a type that exams have, from one entry of `frames`.

    An array has its type. JSON has one kind of number, and 8-bit frames are prepared otherwise than
    a CT's whole numbers: there an entry is {"dtype": "uint8", "samples": nested lists}. The type is
    never guessed from the values: a CT may have none below 0 or above 255.

    Raises:
        ValueError: no type is given, or the samples do not fit it, or a rule of `Exam` is broken.
    """
    if isinstance(value, np.ndarray):
        return Exam(value).frames
    if not isinstance(value, dict) or value.keys() != {DTYPE, SAMPLES}:
        raise ValueError(
            f"frames are without a type; where they are no array, give {{{DTYPE!r}: "
            f"{' or '.join(DTYPES)}, {SAMPLES!r}: nested lists}}"
        )
    if value[DTYPE] not in DTYPES:
        raise ValueError(f"{DTYPE} is {value[DTYPE]!r}; it must be one of {', '.join(DTYPES)}")
    try:
        samples = np.array(value[SAMPLES], np.float64)  # exact for all that the types hold
    except (TypeError, ValueError):
        raise ValueError(f"{SAMPLES} are no nested lists of numbers, of one shape") from None
    with np.errstate(invalid="ignore", over="ignore"):
        frames = samples.astype(value[DTYPE])
    if frames.dtype.kind in "iu" and not np.array_equal(frames, samples):
        raise ValueError(f"some samples are no {value[DTYPE]}: not whole, or out of its range")
    return Exam(frames).frames


def _paths(values: Iterable[Any]) -> list[Path]:
    """Raises ValueError: names the first entry that is no text, counted from 0."""
    values = list(values)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"exam {row}: {FILE} is {value!r}; it must be the path of an exam")
    return [Path(value) for value in values]


def _checked(values: Iterable[Any]) -> list[np.ndarray]:
    """Raises ValueError: names the first entry that is no exam, counted from 0."""
    frames: list[np.ndarray] = []
    for row, value in enumerate(values):
        try:
            frames.append(frames_of(value))
        except ValueError as error:
            raise ValueError(f"exam {row}: {error}") from None
    return frames


def table(predictions: "list[Prediction]") -> pd.DataFrame:
    """Predictions as rows."""
    return pd.DataFrame(
        {
            LABEL: one.label,
            ABOVE: one.above_threshold,
            **{f"{PROBABILITY}.{name}": value for name, value in one.probabilities.items()},
            KEPT: one.kept,
            ATTENTION: one.attention,
        }
        for one in predictions
    )


def _load_pyfunc(data_path: str) -> ExamModel:
    folder = Path(data_path)
    package.check(folder)
    from keyslice.models.predictor import Predictor  # torch: only where a model is really loaded

    return ExamModel(Predictor.load(folder))

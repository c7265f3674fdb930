"""What MLflow calls to load a package: its `loader_module`. The package itself holds no code."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from keyslice.registry import package

if TYPE_CHECKING:
    from keyslice.models.predictor import Prediction, Predictor

FILE, FRAMES = "file", "frames"
LABEL, PROBABILITY, KEPT, ATTENTION = "label", "probability", "kept", "attention"


class ExamModel:
    """A predictor behind MLflow's interface."""

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per exam: label, probability.<class> for each class, kept, attention.

        Args:
            model_input: a table with a column `file` (paths of exams) or a column `frames` (arrays
                (T,H,W) or (T,H,W,3)); or, called directly, an array (B,T,H,W) or (B,T,H,W,3).
            params: none are known.

        Raises:
            ValueError: neither column is there, or both.
        """
        return table(self._predictions(model_input))

    def _predictions(self, model_input: Any) -> "list[Prediction]":
        if isinstance(model_input, np.ndarray):
            return self._predictor.predict_arrays(list(model_input))
        columns = [name for name in (FILE, FRAMES) if name in model_input]
        if len(columns) != 1:
            raise ValueError(
                f"give one of the columns {FILE!r} (paths) and {FRAMES!r} (arrays), "
                f"got {list(model_input)}"
            )
        values = list(model_input[columns[0]])
        if columns == [FILE]:
            return self._predictor.predict_files([Path(value) for value in values])
        return self._predictor.predict_arrays([np.asarray(value) for value in values])


def table(predictions: "list[Prediction]") -> pd.DataFrame:
    """Predictions as rows."""
    return pd.DataFrame(
        {
            LABEL: one.label,
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

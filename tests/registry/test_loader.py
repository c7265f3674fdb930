from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from keyslice.errors import UserError
from keyslice.registry import package
from keyslice.registry.loader import ExamModel


@dataclass
class One:
    label: str = "lesion"
    probabilities: dict[str, float] = field(default_factory=lambda: {"healthy": 0.2, "lesion": 0.8})
    kept: tuple[int, ...] = (1, 3)
    attention: tuple[float, ...] = (0.5, 0.5)


class Recorder:
    """Stands for a predictor: notes what it was asked."""

    def predict_files(self, paths: list[Path]) -> list[One]:
        self.asked: Any = paths
        return [One() for _ in paths]

    def predict_arrays(self, exams: list[np.ndarray]) -> list[One]:
        self.asked = exams
        return [One() for _ in exams]


def test_a_column_of_files_is_predicted_by_path() -> None:
    recorder = Recorder()
    found = ExamModel(recorder).predict(pd.DataFrame({"file": ["a.nii", "b.nii"]}))  # pyright: ignore
    assert recorder.asked == [Path("a.nii"), Path("b.nii")]
    assert list(found["probability.lesion"]) == [0.8, 0.8]
    assert list(found["label"]) == ["lesion", "lesion"]
    assert list(found["kept"]) == [(1, 3), (1, 3)]


@pytest.mark.parametrize("as_table", [True, False])
def test_arrays_are_predicted_as_exams(as_table: bool) -> None:
    recorder, exams = Recorder(), np.zeros((2, 5, 4, 4), np.uint8)
    given = pd.DataFrame({"frames": list(exams)}) if as_table else exams
    assert len(ExamModel(recorder).predict(given)) == 2  # pyright: ignore
    assert [one.shape for one in recorder.asked] == [(5, 4, 4)] * 2


def test_an_input_without_files_or_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="'file'"):
        ExamModel(Recorder()).predict(pd.DataFrame({"path": ["a"]}))  # pyright: ignore


def test_a_package_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"format_version": 2}')
    with pytest.raises(UserError, match="format_version is 2"):
        package.check(tmp_path)

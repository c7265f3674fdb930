import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from keyslice.errors import UserError
from keyslice.registry import package
from keyslice.registry.loader import ExamModel
from keyslice.registry.register import _signature


@dataclass
class One:
    label: str = "lesion"
    probabilities: dict[str, float] = field(default_factory=lambda: {"healthy": 0.2, "lesion": 0.8})
    kept: tuple[int, ...] = (1, 3)
    attention: tuple[float, ...] = (0.5, 0.5)
    above_threshold: tuple[str, ...] = ("lesion",)


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
    assert list(found["above_threshold"]) == [("lesion",), ("lesion",)]


def test_the_columns_are_those_of_the_signature() -> None:
    found = ExamModel(Recorder()).predict(pd.DataFrame({"file": ["a.nii"]}))  # pyright: ignore
    assert list(found) == _signature(("healthy", "lesion")).outputs.input_names()


@pytest.mark.parametrize("as_table", [True, False])
def test_arrays_are_predicted_as_exams(as_table: bool) -> None:
    recorder, exams = Recorder(), np.zeros((2, 5, 4, 4), np.uint8)
    given = pd.DataFrame({"frames": list(exams)}) if as_table else exams
    assert len(ExamModel(recorder).predict(given)) == 2  # pyright: ignore
    assert [one.shape for one in recorder.asked] == [(5, 4, 4)] * 2


def test_frames_that_come_as_json_are_the_same_exams_as_arrays() -> None:
    """As `mlflow models serve` reads them; 8-bit samples that became 64-bit would be rescaled."""
    samples = {
        "uint8": [[[82, 71], [65, 53]]],
        "int16": [[[82, 71], [65, 53]]],
        "float32": [[[0.1, 71], [-65, 53]]],
    }
    request = {
        "dataframe_records": [{"frames": {"dtype": t, "samples": samples[t]}} for t in samples]
    }
    schema = _signature(("healthy", "lesion")).inputs
    read = infer_and_parse_data(json.loads(json.dumps(request)), schema)
    recorder = Recorder()
    ExamModel(recorder).predict(_enforce_schema(read, schema))  # pyright: ignore
    for dtype, asked in zip(samples, recorder.asked, strict=True):
        assert asked.dtype == dtype
        assert np.array_equal(asked, np.array(samples[dtype], dtype))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[[82, 71]]], "exam 1: frames are without a type; .*uint8 or int16"),
        ({"dtype": "int64", "samples": [[[1]]]}, "exam 1: dtype is 'int64'; it must be one of"),
        ({"dtype": "uint8", "samples": [[[256]]]}, "exam 1: some samples are no uint8"),
        ({"dtype": "int16", "samples": [[[0.5]]]}, "exam 1: some samples are no int16"),
        ({"dtype": "float32", "samples": [[[None]]]}, "exam 1: .* not finite"),
        ({"dtype": "uint8", "samples": [[[1], [1, 2]]]}, "exam 1: samples are no nested lists"),
        ({"dtype": "uint8", "samples": [[1]]}, r"exam 1: frames have shape \(1, 1\)"),
        (np.zeros((2, 4, 4), np.int64), "exam 1: frames are int64; they must be one of"),
        (np.full((2, 4, 4), np.nan, np.float32), "exam 1: .* not finite"),
        (np.zeros((2, 4, 4, 2), np.uint8), "exam 1: frames have shape"),
    ],
)
def test_frames_that_are_no_exam_are_refused(value: Any, said: str) -> None:
    recorder = Recorder()
    rows = pd.DataFrame({"frames": [np.zeros((2, 4, 4), np.uint8), value]})
    with pytest.raises(MlflowException, match=said) as told:
        ExamModel(recorder).predict(rows)  # pyright: ignore
    assert told.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="exam 0: frames are int64"):
        ExamModel(recorder).predict(np.zeros((1, 2, 4, 4), np.int64))  # pyright: ignore


def test_an_input_without_files_or_frames_is_refused() -> None:
    with pytest.raises(MlflowException, match="'file'"):
        ExamModel(Recorder()).predict(pd.DataFrame({"path": ["a"]}))  # pyright: ignore


@pytest.mark.parametrize("value", [None, float("nan"), 7])
def test_a_file_that_is_no_path_is_named_by_its_place(value: object) -> None:
    rows = pd.DataFrame({"file": pd.Series(["a.nii", value], dtype=object)})
    with pytest.raises(MlflowException, match=r"exam 1: file is .*must be the path") as told:
        ExamModel(Recorder()).predict(rows)  # pyright: ignore
    assert told.value.get_http_status_code() == 400


@pytest.mark.parametrize("number", [1, 4])
def test_a_package_of_another_format_is_refused_with_the_way_out(
    tmp_path: Path, number: int
) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"format_version": number}))
    with pytest.raises(UserError, match=f"format_version is {number}.*keyslice register DATASET"):
        package.check(tmp_path)

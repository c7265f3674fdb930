"""A variant that looks more than once, from its evaluation to its package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from keyslice.config import Params, Workspace
from keyslice.evaluation import predictions
from keyslice.exams.exam import exam_id
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading
from keyslice.models.predictor import Predictor
from keyslice.models.trial import outcomes
from keyslice.registry import package
from keyslice.stages.evaluate import evaluate
from keyslice.stages.train import train
from tests.stages.test_train_evaluate import CLASSES, PARAMS, workspace

__all__ = ["workspace"]
LEARNED = {
    "budget": 4,
    "criterion": "random",
    "aggregation": "learned",
    "attention": {"width": 8, "learning_rate": 0.05, "epochs": 2},
    "views": ["flip_horizontal"],
    "variants": {"full": {"budget": 1, "views": []}},
}


@pytest.fixture(scope="module")
def params() -> Params:
    values = PARAMS.model_dump(mode="json") | {"evaluate": {"test_time": LEARNED}}
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def looked(workspace: Workspace, params: Params) -> Workspace:
    threads = torch.get_num_threads()
    try:
        for variant in ("full", "uniform"):
            train(workspace, params, "ward", variant)
            evaluate(workspace, params, "ward", variant)
    finally:
        torch.set_num_threads(threads)
    return workspace


def test_predictions_are_told_with_and_without(looked: Workspace) -> None:
    table = predictions.read(looked.results("ward", "uniform") / "predictions.parquet")
    plain = predictions.plain(table)
    assert plain is not None
    assert not np.allclose(np.stack(plain["probabilities"]), np.stack(table["probabilities"]))
    assert (table["macs"] > 2 * table["plain_macs"]).all()
    once = predictions.read(looked.results("ward", "full") / "predictions.parquet")
    assert predictions.plain(once) is None


def test_what_is_learned_is_left_beside_them(looked: Workspace) -> None:
    folder = looked.results("ward", "uniform") / "test_time"
    told = json.loads((folder / "test_time.json").read_text())
    assert told["settings"]["budget"] == 4
    assert set(told["validation_loss"]) == {"0", "3"}
    names = {file.name for file in folder.iterdir()}
    assert names == {"test_time.json", "seed-0.safetensors", "seed-3.safetensors"}
    alone = looked.results("ward", "full") / "test_time"
    assert [file.name for file in alone.iterdir()] == ["test_time.json"]


@pytest.mark.parametrize("variant", ["full", "uniform"])
def test_a_package_predicts_as_the_stage_did(
    looked: Workspace, params: Params, tmp_path: Path, variant: str
) -> None:
    weights = looked.models("ward", variant) / "seed-3" / "model.safetensors"
    told = {package.tags.WEIGHTS: package.files.sha256(weights)}
    package.build(looked, params, "ward", variant, 3, tmp_path / "package", told)
    package.check(tmp_path / "package")
    predictor = Predictor.load(tmp_path / "package")
    table = predictions.read(looked.results("ward", variant) / "predictions.parquet")
    rows = table[table["seed"] == 3].set_index("exam_id")
    found = {exam_id(open_exam(f, Reading()).frames): f for f in looked.inbox("ward").glob("*.nii")}
    predicted = predictor.predict_files(found[exam] for exam in rows.index)
    for prediction, (_, row) in zip(predicted, rows.iterrows(), strict=True):
        given = [prediction.probabilities[name] for name in CLASSES]
        np.testing.assert_allclose(given, row["probabilities"], rtol=1e-3, atol=1e-6)
    exams = [open_exam(found[exam], Reading()).frames for exam in rows.index]
    costs = [macs for _, macs in outcomes(tmp_path / "package", [exams])]
    assert np.mean(costs) == pytest.approx(rows["macs"].mean(), rel=0.1)

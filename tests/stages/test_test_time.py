"""A variant that looks more than once, from its evaluation to its package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.exams.exam import exam_id
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading
from keyslice.models.classifier import Output
from keyslice.models.predictor import STATE_ATTENTION, Predictor
from keyslice.models.test_time import TestTime
from keyslice.models.trial import outcomes
from keyslice.registry import package
from keyslice.stages.evaluate import evaluate, in_use
from keyslice.stages.latency import measure
from keyslice.stages.train import train
from tests.conftest import ROOT
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


def _of(params: Params, *variants: str) -> Params:
    """With these variants alone."""
    return params.model_copy(update={"variants": {n: params.variants[n] for n in variants}})


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


def test_dvc_keeps_all_that_an_evaluation_leaves(looked: Workspace) -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]
    outs = [*stage["outs"], *(path for plot in stage["plots"] for path in plot), *stage["metrics"]]
    names = {file.name for file in looked.results("ward", "uniform").iterdir()}
    assert names == {Path(path).name for path in outs}


def test_what_a_kill_left_of_exams_goes_with_the_next_evaluation(
    looked: Workspace, params: Params
) -> None:
    left = looked.states("ward", "full") / "train" / "0.npy"
    left.parent.mkdir(parents=True)
    left.write_text("what states show")
    evaluate(looked, params, "ward", "full")
    assert not looked.states("ward", "full").exists()


def test_the_same_inputs_give_the_same_bytes(looked: Workspace, params: Params) -> None:
    folder = looked.results("ward", "uniform")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    evaluate(looked, params, "ward", "uniform")
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert not looked.states("ward", "uniform").exists()


def test_a_network_is_timed_as_it_is_used(
    looked: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    forward = TestTime.forward

    def counted(looking: TestTime, *arguments: Any) -> Output:
        assert looking.attention is not None
        calls.append("uniform")
        return forward(looking, *arguments)

    monkeypatch.setattr(TestTime, "forward", counted)
    figures = measure(looked, _of(params, "full", "uniform"), "ward", {"full": "", "uniform": ""})
    assert len(calls) == 2 * 6  # a batch, and an exam alone; once to warm up, five times timed
    assert figures["uniform"]["ms_per_exam"] > figures["full"]["ms_per_exam"]


@pytest.mark.parametrize("content", [None, b"no safetensors"])
def test_what_a_network_has_not_learned_for_it_is_told_with_the_way_out(
    looked: Workspace, params: Params, content: bytes | None
) -> None:
    file = looked.results("ward", "uniform") / "test_time" / "seed-0.safetensors"
    before = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    try:
        with pytest.raises(UserError, match=r"dvc repro evaluate@ward-uniform$"):
            in_use(looked, params.stage("ward", "uniform"), 0)
    finally:
        file.write_bytes(before)


def test_what_was_learned_for_another_way_of_looking_is_not_used(
    looked: Workspace, params: Params
) -> None:
    settings = params.stage("ward", "uniform")
    test_time = settings.evaluate.test_time.model_copy(update={"budget": 5})
    evaluate = settings.evaluate.model_copy(update={"test_time": test_time})
    with pytest.raises(UserError, match="has not been evaluated with these settings"):
        in_use(looked, settings.model_copy(update={"evaluate": evaluate}), 0)


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
    tried = [*outcomes(tmp_path / "package", [exams])]
    assert np.mean([one.macs for one in tried]) == pytest.approx(rows["macs"].mean(), rel=0.1)
    plain = rows["plain_probabilities" if variant == "uniform" else "probabilities"]
    np.testing.assert_allclose([one.plain for one in tried], np.stack(plain), rtol=1e-3, atol=1e-6)


@pytest.fixture
def packed(looked: Workspace, params: Params, tmp_path: Path) -> Path:
    """The package of a model that has learned to look more than once."""
    weights = looked.models("ward", "uniform") / "seed-3" / "model.safetensors"
    told = {package.tags.WEIGHTS: package.files.sha256(weights)}
    package.build(looked, params, "ward", "uniform", 3, tmp_path / "package", told)
    return tmp_path / "package"


def _other_width() -> bytes:
    return save({"query.weight": torch.zeros(8, 3), "key.weight": torch.zeros(8, 3)})


DAMAGES = {
    "missing": (None, "is missing, or no safetensors file"),
    "cut": (b"cut", "is missing, or no safetensors file"),
    "of another network": (_other_width(), "is not of this model"),
    "of something else": (save({"weight": torch.zeros(1)}), "is not of this model"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_learned_and_cannot_be_used_is_one_line(packed: Path, damage: str) -> None:
    content, said = DAMAGES[damage]
    (packed / STATE_ATTENTION).unlink()
    if content is not None:
        (packed / STATE_ATTENTION).write_bytes(content)
    with pytest.raises(UserError, match=f"{STATE_ATTENTION} {said}") as refused:
        Predictor.load(packed)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=f"{STATE_ATTENTION} is not the one that package.json"):
        package.check(packed)


def test_a_package_from_before_there_was_a_choice_looks_once(packed: Path) -> None:
    """Of format 2: without test_time, and without what is learned for it."""
    (packed / STATE_ATTENTION).unlink()
    about = json.loads((packed / "package.json").read_text())
    del about["state_attention"], about["settings"]["evaluate"]["test_time"]
    (packed / "package.json").write_text(json.dumps(about | {"format_version": 2}))
    package.check(packed)
    assert not isinstance(Predictor.load(packed).model, TestTime)

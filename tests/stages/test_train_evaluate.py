"""Stages train and evaluate with every sampler: three classes, colour beside grey, short exams."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.models.convnext import ConvNeXt

import keyslice
from keyslice import files, initial
from keyslice.config import (
    SAMPLER_SETTINGS,
    Backbone,
    FolderDataset,
    Model,
    Params,
    Prepare,
    Split,
    Train,
    Variant,
    Workspace,
)
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.evaluation.summary import summarise
from keyslice.exams.exam import exam_id
from keyslice.exams.ingestion import ingest
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading
from keyslice.initial import Ancestor
from keyslice.models import build
from keyslice.models import test_time as test_time_models
from keyslice.models.backbone import WeightsOrigin
from keyslice.models.predictor import Predictor
from keyslice.stages.evaluate import evaluate, trained
from keyslice.stages.preflight import preflight
from keyslice.stages.prepare import prepare
from keyslice.stages.train import begin, inputs_hash, train

CLASSES = ("clear", "mixed", "solid")
LENGTHS = (1, 2, 5, 9)
WARD = FolderDataset(
    source="folder",
    classes=CLASSES,
    identifiers="public",
    split=Split(train=0.5, validation=0.25, test=0.25),
)
PARAMS = Params(
    datasets={"ward": WARD},
    variants={
        name: Variant(sampler=name, keep=1.0 if name == "full" else 0.4)
        for name in SAMPLER_SETTINGS
    },
    prepare=Prepare(image_size=32),
    backbone=Backbone(name="test_resnet", weights="none"),
    model=Model(attention_width=8, hidden_width=8),
    train=Train(seeds=(0, 3), epochs=1, batch_size=8, device="cpu"),
)

CHAMPION = Ancestor(
    "ward", 4, "1.dir", "p" * 64, "", CLASSES, "das", "test_resnet", "none", None
)  # fmt: skip
ATTO = Backbone(name="convnext_atto", weights="none")


def _write(folder: Path, count: int) -> None:
    """Exams of 1 to 9 frames; every other one in colour; some frames empty."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = [("file", "patient_id", "label", "informative")]
    for i in range(count):
        frames = rng.integers(0, 200, (24, 24, LENGTHS[i % 4], 3), dtype=np.uint8)
        frames[:, :, 1::3] = 0
        if i % 2:
            record = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
            samples = frames.view(record)[..., 0]
        else:
            samples = frames[..., 0]
        nib.save(nib.Nifti1Image(samples, np.diag([1.0, 1.0, 4.0, 1.0])), folder / f"{i}.nii")
        rows.append((f"{i}.nii", f"p{i}", CLASSES[i % 3], "0"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    _write(workspace.inbox("ward"), 48)
    ingest(workspace, "ward", WARD)
    prepare(workspace, PARAMS, "ward")
    return workspace


@pytest.fixture(scope="module", params=list(SAMPLER_SETTINGS))
def variant(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    threads = torch.get_num_threads()
    try:
        train(workspace, PARAMS, "ward", request.param)
        evaluate(workspace, PARAMS, "ward", request.param)
    finally:
        torch.set_num_threads(threads)
    return request.param


def test_every_exam_held_out_has_a_prediction_of_each_seed(workspace, variant):
    table = predictions.read(workspace.results("ward", variant) / "predictions.parquet")
    assert len(table) == 2 * table["exam_id"].nunique()
    assert set(table["seed"]) == {0, 3}
    assert set(table["split"]) == {"validation", "test"}
    assert set(table["frames"]) == set(LENGTHS)
    probabilities = np.stack(table["probabilities"].to_list())
    assert probabilities.shape[1] == 3
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    for _, row in table.iterrows():
        wanted = row["frames"] if variant == "full" else -(-row["frames"] * 4 // 10)
        assert len(row["kept"]) == wanted
        assert set(row["kept"]) <= set(range(row["frames"]))
        np.testing.assert_allclose(sum(row["attention"]), 1, rtol=1e-4)


def test_the_figures_are_there_for_both_splits(workspace, variant):
    figures = json.loads((workspace.results("ward", variant) / "metrics.json").read_text())
    assert set(figures["seeds"]) == {"0", "3"}
    for split in ("validation", "test"):
        assert 0 <= figures[split]["auc"]["mean"] <= 1
        assert 0 < figures[split]["hit_rate"]["mean"] <= 1


def test_the_figures_are_those_of_the_predictions_file(workspace, variant):
    folder = workspace.results("ward", variant)
    table = predictions.read(folder / "predictions.parquet")
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures == summarise(table, CLASSES, PARAMS.stage("ward", variant).evaluate)


def test_a_file_is_predicted_as_the_stage_predicted_its_exam(workspace, variant):
    table = predictions.read(workspace.results("ward", variant) / "predictions.parquet")
    rows = table[table["seed"] == 3].set_index("exam_id")
    settings = PARAMS.stage("ward", variant)
    predictor = Predictor(trained(workspace, settings, 3), settings, seed=3)
    files = sorted(workspace.inbox("ward").glob("*.nii"))
    found = {exam_id(open_exam(file, Reading()).frames): file for file in files}
    assert set(rows.index) <= set(found)
    predicted = predictor.predict_files(found[exam] for exam in rows.index)
    for prediction, (_, row) in zip(predicted, rows.iterrows(), strict=True):
        assert prediction.kept == list(row["kept"])
        given = [prediction.probabilities[name] for name in CLASSES]
        np.testing.assert_allclose(given, row["probabilities"], rtol=1e-3)


@pytest.mark.parametrize("variant", ["uniform"], indirect=True)
def test_a_training_begins_by_saying_its_weights_and_its_device(workspace, variant, capsys):
    folder = workspace.models("ward", variant)
    before = (folder / "settings.json").read_bytes()
    train(workspace, PARAMS, "ward", variant)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"ward · {variant} · weights none, device cpu"
    assert (folder / "settings.json").read_bytes() == before


@pytest.mark.parametrize(
    "file", ["metrics.py", "prepared.py", "training/fit.py", "models/build.py", "config/base.py"]
)
def test_a_checkpoint_of_other_code_is_another_trainings(workspace, tmp_path, monkeypatch, file):
    source = tmp_path / "keyslice"
    shutil.copytree(Path(keyslice.__file__).parent, source)
    monkeypatch.setattr(keyslice, "__file__", str(source / "__init__.py"))
    inputs = PARAMS.stage("ward", "das"), workspace.prepared("ward"), WeightsOrigin("none", None)
    before = inputs_hash(*inputs)
    with (source / file).open("a") as code:
        code.write("# changed\n")
    assert inputs_hash(*inputs) != before


@pytest.fixture
def champion(workspace, tmp_path):
    """A workspace where `das` is to start from a network; and that network."""
    copy = Workspace(Path(shutil.copytree(workspace.root, tmp_path / "copy")))
    file = tmp_path / "model.safetensors"
    build.save(build.fresh(PARAMS.stage("ward", "das"), seed=9), file)
    one = replace(CHAMPION, weights=files.sha256(file))
    initial.write(copy, "ward", {"das": one, "full": one, "uniform": None})
    copy.networks("ward").mkdir()
    return copy, Path(shutil.copy(file, initial.network(copy, "ward", one.weights)))


def _from_champion(**changes):
    rates = {"learning_rate": 1e-30, "sampler_learning_rate": 1e-30}
    own = PARAMS.train.model_copy(update={"start": "champion", **rates})
    return PARAMS.model_copy(update={"train": own, **changes})


def test_every_seed_starts_from_all_of_the_champions_network(champion, capsys):
    """With steps too small to change a value, it ends with what it started from."""
    workspace, network = champion
    train(workspace, _from_champion(), "ward", "das")
    assert "ward · das · weights of ward/4, device cpu" in capsys.readouterr().out
    folder = workspace.models("ward", "das")
    told = json.loads((folder / "settings.json").read_text())
    assert initial.entry(told["initial"]) == replace(CHAMPION, weights=files.sha256(network))
    before = load_file(network)
    for seed in (0, 3):
        after = load_file(folder / f"seed-{seed}" / "model.safetensors")
        learned = [name for name in before if "running" not in name and "tracked" not in name]
        assert len(learned) > 10
        for name in learned:
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("variant", "changes", "said"),
    [
        ("full", {}, r"from scratch \(its sampler: full; of ward/4: das\)"),
        ("uniform", {}, r"from scratch \(no champion that it could start from was laid down"),
        (
            "das",
            {"model": Model(attention_width=9, hidden_width=8)},
            r"from scratch .* of \d+ tens",
        ),
        ("das", {"train": PARAMS.train}, "^weights none$"),
    ],
)
def test_what_does_not_fit_starts_from_scratch_as_a_whole_and_says_why(
    champion, variant, changes, said
):
    workspace, _ = champion
    start = begin(workspace, _from_champion(**changes).stage("ward", variant))
    assert (start.ancestor, start.file) == (None, None)
    assert re.search(said, start.words)


def test_a_network_that_is_not_the_one_named_is_refused(champion):
    workspace, network = champion
    network.write_bytes(network.read_bytes()[:-1] + b"0")
    with pytest.raises(UserError, match="network of ward/4 is not here, or altered"):
        begin(workspace, _from_champion().stage("ward", "das"))


def test_a_checkpoint_of_another_start_is_another_trainings(workspace):
    inputs = PARAMS.stage("ward", "das"), workspace.prepared("ward"), WeightsOrigin("none", None)
    known = {inputs_hash(*inputs, replace(CHAMPION, weights=one)) for one in "ab"}
    assert len(known | {inputs_hash(*inputs)}) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": Backbone(name="mobilnet", weights="none")}, "unknown timm model 'mobilnet'"),
        ({"backbone": Backbone(name="test_resnet", weights="none.safetensors")}, "no such file"),
        ({"backbone": ATTO, "prepare": Prepare(image_size=28)}, "cannot encode frames"),
        ({"train": Train(device="cuda")}, "no GPU was found"),
    ],
)
def test_what_no_training_could_begin_with_is_found_without_any_exam(changes, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=said):
        preflight(PARAMS.model_copy(update=changes), "ward", ["das", "uniform"])


def _looking(backbone: Backbone = ATTO, size: int = 32, **test_time: object) -> Params:
    """The variant das looks more than once."""
    values = PARAMS.model_dump(mode="json", exclude={"backbone", "prepare", "evaluate"})
    return Params.model_validate(
        values
        | {
            "backbone": backbone,
            "prepare": {"image_size": size},
            "evaluate": {"test_time": {"variants": {"das": test_time}}},
        }
    )


class _Branches(torch.nn.Module):
    """In the place of a network's forward pass: what torch.fx cannot follow."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames if frames.sum() > 0 else -frames


LOOKS = [
    ({"layers": ["stem.7"]}, "", "no subsampling layer is named 'stem.7'; did you"),
    ({"budget": 17, "layers": 2}, "", "a budget of 17, but there are 16 states; lower budget, or"),
    ({}, "", "cannot be traced.*; views do without it, with a budget of 1; or choose another"),
    ({"views": ["shift_left"]}, "", "cannot be traced"),
    ({"criterion": "learned", "layers": "all"}, "RuntimeError", "cannot look more than once at"),
]


@pytest.mark.parametrize(("test_time", "fails", "said"), LOOKS)
def test_a_network_that_cannot_look_as_often_as_asked_is_found_without_any_exam(
    test_time, fails, said, monkeypatch
):
    if not fails and "layers" not in test_time:
        plain, branches = ConvNeXt.forward_features, _Branches().forward
        monkeypatch.setattr(ConvNeXt, "forward_features", lambda own, x: branches(plain(own, x)))
    if fails:

        def too_small(*_: object) -> None:
            raise RuntimeError("Kernel size can't be greater than actual input size\n  at line 1")

        monkeypatch.setattr(test_time_models, "search", too_small)
    params = _looking(**{"budget": 3} | test_time)
    preflight(params, "ward", ["uniform"])  # it looks once
    found = f"^evaluate.test_time for variant das: .*{said}"
    with pytest.raises(UserError, match=found) as refused:
        preflight(params, "ward", ["das", "uniform"])
    assert "\n" not in str(refused.value)


def test_a_training_whose_network_cannot_look_as_often_as_asked_is_not_begun(workspace):
    params = _looking(PARAMS.backbone, budget=2, layers=["stem"])
    with pytest.raises(UserError, match="no subsampling layer is named 'stem'"):
        train(workspace, params, "ward", "das")
    assert not [*workspace.checkpoints("ward", "das").glob("*")]


def test_what_a_training_can_begin_with_passes():
    preflight(PARAMS, "ward", PARAMS.variants)
    often = {"budget": 3, "criterion": "learned", "aggregation": "learned", "views": ["shift_up"]}
    preflight(_looking(**often), "ward", PARAMS.variants)

"""The stages on real exams with real weights, where the settings say that they are here."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keyslice.config import (
    Backbone,
    Compare,
    Evaluate,
    MedMNISTDataset,
    Params,
    Train,
    Variant,
    Workspace,
)
from keyslice.exams import medmnist
from keyslice.exams.ingestion import ingest
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import evaluate
from keyslice.stages.prepare import prepare
from keyslice.stages.train import train

NAME = "glands"
PARAMS = Params(
    datasets={
        NAME: MedMNISTDataset(
            source="medmnist", flag="adrenalmnist3d", classes=("normal", "hyperplasia")
        )
    },
    # A few slices and one epoch: minutes matter here, what is learned does not.
    variants={"nonempty": Variant(sampler="nonempty", keep=0.1)},
    backbone=Backbone(weights="imagenet"),
    train=Train(seeds=(0,), epochs=1, device="cpu"),
    evaluate=Evaluate(resamples=100),
    compare=Compare(references=()),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Adrenal glands, ingested, prepared, and one small variant trained and evaluated."""
    root = os.environ.get(medmnist.ROOT_VARIABLE)
    if not root or not (Path(root) / "adrenalmnist3d.npz").is_file():
        pytest.skip(f"set {medmnist.ROOT_VARIABLE} to a folder with adrenalmnist3d.npz")
    weights = os.environ.get("KEYSLICE_WEIGHTS")
    if not weights or not [*Path(weights).glob("mobilenetv3_small_100.*safetensors")]:
        pytest.skip("set KEYSLICE_WEIGHTS to a folder with weights of mobilenetv3_small_100")
    workspace = Workspace(tmp_path_factory.mktemp("real"))
    ingest(workspace, NAME, PARAMS.dataset(NAME))
    prepare(workspace, PARAMS, NAME)
    train(workspace, PARAMS, NAME, "nonempty")
    evaluate(workspace, PARAMS, NAME, "nonempty")
    return workspace


def test_the_official_splits_are_kept(workspace):
    manifest = pd.read_parquet(workspace.manifest(NAME))
    official = medmnist.info()["adrenalmnist3d"]["n_samples"]
    counts = manifest["split"].value_counts()
    assert {ours: counts[theirs] for ours, theirs in medmnist.SPLITS.items()} == official


def test_its_slices_are_masks_and_most_are_empty(workspace):
    store = PreparedStore.open(workspace.prepared(NAME))
    exams = np.stack([store.frames(row) for row in range(len(store))])
    assert set(np.unique(exams)) == {0, 255}
    empty = exams.max(axis=(2, 3, 4)) == 0
    assert 0.6 < empty.mean() < 0.66


def test_every_exam_outside_training_is_predicted_from_its_kept_slices(workspace):
    table = pd.read_parquet(workspace.results(NAME, "nonempty") / "predictions.parquet")
    assert table["split"].value_counts().to_dict() == {"test": 298, "validation": 98}
    assert {len(kept) for kept in table["kept"]} == {3}
    store = PreparedStore.open(workspace.prepared(NAME))
    rows = {exam_id: row for row, exam_id in enumerate(store.table["exam_id"])}
    for exam_id, kept in zip(table["exam_id"][:50], table["kept"][:50], strict=True):
        assert (store.frames(rows[exam_id])[kept].max(axis=(1, 2, 3)) == 255).all()


def test_the_weights_it_started_from_are_told(workspace):
    trained = json.loads((workspace.models(NAME, "nonempty") / "settings.json").read_text())
    assert trained["weights"]["source"].startswith("mobilenetv3_small_100.")
    assert len(trained["weights"]["sha256"]) == 64

"""The stages on real exams with real weights, where the settings say that they are here."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from keyslice.config import (
    Backbone,
    Compare,
    Evaluate,
    FolderDataset,
    MedMNISTDataset,
    Params,
    Train,
    Variant,
    Workspace,
)
from keyslice.exams import manifest, medmnist
from keyslice.exams.exam import exam_id
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
    rows = {exam: row for row, exam in enumerate(store.table["exam_id"])}
    for exam, kept in zip(table["exam_id"][:50], table["kept"][:50], strict=True):
        assert (store.frames(rows[exam])[kept].max(axis=(1, 2, 3)) == 255).all()


def test_the_weights_it_started_from_are_told(workspace):
    trained = json.loads((workspace.models(NAME, "nonempty") / "settings.json").read_text())
    assert trained["weights"]["source"].startswith("mobilenetv3_small_100.")
    assert len(trained["weights"]["sha256"]) == 64


@pytest.fixture(scope="module")
def glands():
    """Twelve adrenal glands (T,H,W) uint8, and their labels."""
    root = os.environ.get(medmnist.ROOT_VARIABLE)
    if not root or not (Path(root) / "adrenalmnist3d.npz").is_file():
        pytest.skip(f"set {medmnist.ROOT_VARIABLE} to a folder with adrenalmnist3d.npz")
    with np.load(Path(root) / "adrenalmnist3d.npz", allow_pickle=False) as arrays:
        return arrays["train_images"][:12], arrays["train_labels"][:12, 0]


def _as_npz(folder: Path, frames: np.ndarray) -> None:
    np.savez_compressed(folder / "gland.npz", frames=frames, spacing=(2.0, 1.0, 1.0))


def _as_nifti(folder: Path, frames: np.ndarray) -> None:
    # Axial slices from feet to head, rows to the back, columns to the patient's left.
    image = nib.Nifti1Image(frames.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0]))
    nib.save(image, folder / "gland.nii.gz")


def _as_dicom(folder: Path, frames: np.ndarray) -> None:
    template = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    for name in ("RescaleSlope", "RescaleIntercept", "PixelPaddingValue"):
        if name in template:
            delattr(template, name)
    template.SeriesInstanceUID = generate_uid()
    template.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    template.PixelSpacing = [1.0, 1.0]
    for number, frame in enumerate(frames):
        template.SOPInstanceUID = generate_uid()
        template.InstanceNumber = number + 1
        template.ImagePositionPatient = [0, 0, 2.0 * number]
        template.set_pixel_data(frame, "MONOCHROME2", 8)
        template.save_as(folder / f"{len(frames) - number}.dcm")


def test_the_same_glands_as_dicom_nifti_and_npz_are_the_same_exams(glands, tmp_path: Path):
    images, labels = glands
    found = {}
    for write in (_as_npz, _as_nifti, _as_dicom):
        workspace = Workspace(tmp_path / write.__name__)
        rows = ["file,patient_id,label"]
        for number, (frames, label) in enumerate(zip(images, labels, strict=True)):
            folder = workspace.inbox("glands") / f"{number}"
            folder.mkdir(parents=True)
            write(folder, frames)
            name = folder.name if write is _as_dicom else f"{number}/{next(folder.iterdir()).name}"
            rows.append(f"{name},{number},{('normal', 'hyperplasia')[label]}")
        (workspace.inbox("glands") / "labels.csv").write_text("\n".join(rows))
        dataset = FolderDataset(
            source="folder",
            classes=("normal", "hyperplasia"),
            identifiers="public",
            rare_classes="leave_out",
            settle=0,
        )
        report = ingest(workspace, "glands", dataset)
        assert not report.refused
        table = manifest.read(workspace.manifest("glands")).sort_values("exam_id")
        columns = ["exam_id", "label", "split", "frames", "frame_spacing", "intensity_mean"]
        found[write] = table[columns].to_dict("records")
    assert found[_as_npz] == found[_as_nifti] == found[_as_dicom]
    ids = {row["exam_id"] for row in found[_as_npz]}
    assert ids <= {exam_id(frames) for frames in images}
    assert len(ids) > 6

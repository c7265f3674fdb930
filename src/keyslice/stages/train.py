"""Stage train: one variant on one dataset, all seeds in one process."""

import hashlib
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import keyslice
from keyslice import files
from keyslice.config import Params, StageSettings, Workspace
from keyslice.models import backbone
from keyslice.models.backbone import WeightsOrigin
from keyslice.prepared import PreparedStore
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of
from keyslice.training.batches import Exams
from keyslice.training.device import device
from keyslice.training.fit import copy_outputs, fit_seed


def train(workspace: Workspace, params: Params, dataset: str, variant: str) -> None:
    """Write data/models/<dataset>/<variant>: settings.json and a folder per seed.

    Raises:
        UserError: unknown names, exams that are not prepared, weights that cannot be had.
    """
    settings = params.stage(dataset, variant)
    prepared = workspace.prepared(dataset)
    with (
        only_process_of(workspace, f"train@{dataset}-{variant}"),
        held_still(prepared / "store.json"),
    ):
        torch.set_num_threads(settings.train.threads)
        store = PreparedStore.open(prepared)
        learned, validation = (
            Exams(store, split, settings.classes) for split in ("train", "validation")
        )
        home = workspace.checkpoints(dataset, variant)
        _, origin = backbone.build(settings.backbone, settings.prepare.image_size)
        place = device(settings.train)
        sys.stdout.write(f"{dataset} · {variant} · weights {origin.source}, device {place}\n")
        sys.stdout.flush()
        folder = home / inputs_hash(settings, prepared, origin)
        for seed in settings.train.seeds:
            fit_seed(settings, learned, validation, seed, folder / f"seed-{seed}")
        description = settings.model_dump(mode="json") | {
            "weights": {"source": origin.source, "sha256": origin.sha256},
            "dataset_manifest": store.manifest_sha256,
            "device": place,
            "keyslice": keyslice.__version__,
        }
        with files.folder_beside(workspace.models(dataset, variant)) as outputs:
            for seed in settings.train.seeds:
                copy_outputs(folder / f"seed-{seed}", outputs / f"seed-{seed}")
            files.write_text(outputs / "settings.json", json.dumps(description, indent=2) + "\n")
        # Also what trainings with other inputs left when they were killed.
        shutil.rmtree(home)


def inputs_hash(settings: StageSettings, prepared: Path, weights: WeightsOrigin) -> str:
    """Of all that a checkpoint depends on: settings, device, exams, starting weights and code."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(device(settings.train).encode())
    digest.update((prepared / "store.json").read_bytes())
    digest.update(repr(weights).encode())
    for library in ("torch", "timm", "lightning"):
        digest.update(f"{library} {version(library)}".encode())
    source = Path(keyslice.__file__).parent
    single = (source / "prepared.py", source / "metrics.py", Path(__file__))
    folders = (source / name for name in ("config", "models", "samplers", "training"))
    for file in (*single, *(f for d in folders for f in sorted(d.rglob("*.py")))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

"""Stage train: one variant on one dataset, all seeds in one process."""

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

import keyslice
from keyslice import files, initial
from keyslice.config import Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.initial import Ancestor
from keyslice.models import backbone, build
from keyslice.models.backbone import WeightsOrigin
from keyslice.models.classifier import FrameClassifier
from keyslice.models.looks import look
from keyslice.prepared import PreparedStore
from keyslice.stages.inputs import held_still, unchanged
from keyslice.stages.running import only_process_of
from keyslice.training.batches import Exams
from keyslice.training.device import device
from keyslice.training.fit import copy_outputs, fit_seed


def train(workspace: Workspace, params: Params, dataset: str, variant: str) -> None:
    """Write data/models/<dataset>/<variant>: settings.json and a folder per seed.

    Raises:
        UserError: unknown names, exams that are not prepared, weights that cannot be had, a network
            that cannot look at exams as often as `evaluate.test_time` says.
    """
    settings = params.stage(dataset, variant)
    prepared = workspace.prepared(dataset)
    with (
        only_process_of(workspace, f"train@{dataset}-{variant}"),
        held_still(prepared / "store.json"),
        unchanged(lambda: _said(workspace, settings), f"data/initial/{dataset}.json: {variant}"),
    ):
        torch.set_num_threads(settings.train.threads)
        store = PreparedStore.open(prepared)
        learned, validation = (
            Exams(store, split, settings.classes) for split in ("train", "validation")
        )
        home = workspace.checkpoints(dataset, variant)
        look(settings)  # hours before stage evaluate would find it
        start = begin(workspace, settings)
        place = device(settings.train)
        sys.stdout.write(f"{dataset} · {variant} · {start.words}, device {place}\n")
        sys.stdout.flush()
        folder = home / inputs_hash(settings, prepared, start.weights, start.ancestor)
        for seed in settings.train.seeds:
            own = folder / f"seed-{seed}"
            fit_seed(settings, learned, validation, seed, own, fresh=start.network)
        description = settings.model_dump(mode="json") | {
            "weights": {"source": start.weights.source, "sha256": start.weights.sha256},
            "initial": initial.plain(start.ancestor),
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


@dataclass(frozen=True)
class Start:
    """What the networks of all seeds are before their first step."""

    weights: WeightsOrigin
    """Of the encoder; where there is an ancestor, those that its line began with."""
    ancestor: Ancestor | None
    """Whose network they are a copy of; None: they are new ones."""
    file: Path | None
    """That network's."""
    words: str

    def network(self, settings: StageSettings, seed: int) -> FrameClassifier:
        """Of one seed; of an ancestor's network each seed gets the same copy."""
        if self.file is None:
            return build.fresh(settings, seed)
        return build.continued(settings, self.file, weights_file=self.weights.source)


def begin(workspace: Workspace, settings: StageSettings) -> Start:
    """What a variant's training starts from: the champion where it is to and can, else scratch.

    It takes the whole of an ancestor's network or nothing of it, and says so.

    Raises:
        UserError: weights that cannot be had; or the network that was laid down is not here.
    """
    ancestor, why = _said(workspace, settings), ""
    if ancestor is not None:
        weights = WeightsOrigin(ancestor.backbone_weights, ancestor.backbone_sha256)
        why = initial.unfit(settings, ancestor)
        if not why:
            file = _network(workspace, settings.dataset, ancestor)
            why = build.unlike(settings, file, weights_file=weights.source)
            if not why:
                return Start(weights, ancestor, file, f"weights of {ancestor.name}")
    elif settings.train.start == "champion":
        why = "no champion that it could start from was laid down for it"
    _, origin = backbone.build(settings.backbone, settings.prepare.image_size)
    told = f"weights {origin.source}" + (f", from scratch ({why})" if why else "")
    return Start(origin, None, None, told)


def _said(workspace: Workspace, settings: StageSettings) -> Ancestor | None:
    """What data/initial names for the variant, where the settings have it start from that."""
    if settings.train.start == "scratch":
        return None
    return initial.read(workspace, settings.dataset).get(settings.variant)


def _network(workspace: Workspace, dataset: str, ancestor: Ancestor) -> Path:
    file = initial.network(workspace, dataset, ancestor.weights)
    if not file.is_file() or files.sha256(file) != ancestor.weights:
        raise UserError(
            f"the network of {ancestor.name} is not here, or altered",
            where=f"data/initial/{dataset}",
            rule="a training that starts from a champion starts from all of it",
            remedy=f"dvc pull data/initial/{dataset}.dvc, or keyslice plan {dataset}",
        )
    return file


def inputs_hash(
    settings: StageSettings,
    prepared: Path,
    weights: WeightsOrigin,
    ancestor: Ancestor | None = None,
) -> str:
    """Of all that a checkpoint depends on: settings, device, exams, starting weights and code."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(device(settings.train).encode())
    digest.update((prepared / "store.json").read_bytes())
    digest.update(repr((weights, ancestor)).encode())
    for library in ("torch", "timm", "lightning"):
        digest.update(f"{library} {version(library)}".encode())
    source = Path(keyslice.__file__).parent
    single = ("initial.py", "prepared.py", "metrics.py")
    folders = (source / name for name in ("config", "models", "samplers", "training"))
    code = (*(source / name for name in single), Path(__file__))
    for file in (*code, *(f for d in folders for f in sorted(d.rglob("*.py")))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

"""A model package: the network's numbers and a description; no code, nothing to unpickle.

`model.safetensors` holds the parameters and buffers as stage train wrote them. Where the model
looks more than once (`evaluate.test_time`) and has learned how, `state_attention.safetensors` is
what stage evaluate wrote. `package.json` says how they are used and where they came from; read by
`keyslice.models.predictor`:

    format_version: of this list.
    intended_use: datasets.NAME.intended_use, in words; may be empty.
    settings: of the training: dataset, classes (the label names), variant, sampler, keep,
        sampler_settings, prepare (the preprocessing), backbone, model, train; and of the
        evaluation: evaluate.
    slice_axis: along which slices are taken from 3-D images; see `FolderDataset.slice_axis`.
    thresholds: from which probability an exam is positive: chosen_on (the split), rule, and
        classes: for each its `keyslice.evaluation.thresholds.Threshold`, or null.
    training: seed; started_from, the weights that its encoder (or that of the first model of its
        line) began with; initial: `scratch`, or the registered version whose network the training
        started from (`keyslice.initial.Ancestor`); the manifest's hash, device, keyslice's version.
    packaged_with: versions of what is installed where the package was made.
    state_attention: SHA-256 of that file, or null.
    provenance: hashes; the tags of the registered version.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keyslice import files, initial
from keyslice.config import FolderDataset, Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.registry import tags

FORMAT_VERSION = 3
READABLE = (2, FORMAT_VERSION)
"""Models of format 2 look once."""
DESCRIPTION = "package.json"
WEIGHTS = "model.safetensors"
STATE_ATTENTION = "state_attention.safetensors"
TEST_TIME = "test_time"
"""Below a variant's results; see `keyslice.stages.evaluate`."""
_NOTE_OF_MLFLOW = "registered_model_meta"
"""That MLflow leaves where it loads a registered version from: its name and number."""
LIBRARIES = ("keyslice", "torch", "timm", "numpy")
"""Named in packaged_with; all others follow from the hash of requirements.lock."""


def build(
    workspace: Workspace,
    params: Params,
    dataset: str,
    variant: str,
    seed: int,
    target: Path,
    provenance: Mapping[str, str],
) -> None:
    """Make the package of a trained variant and seed in the folder `target`.

    Raises:
        UserError: the variant has not been trained or evaluated with this seed.
    """
    source = workspace.models(dataset, variant)
    weights = source / f"seed-{seed}" / WEIGHTS
    if not weights.is_file():
        raise UserError(
            f"variant {variant} of {dataset} has not been trained with seed {seed}",
            remedy=f"dvc repro train@{dataset}-{variant}",
        )
    written = json.loads((source / "settings.json").read_text(encoding="utf-8"))
    settings = {name: written.pop(name) for name in StageSettings.model_fields}
    started_from = written.pop("weights")
    own = params.stage(dataset, variant).evaluate.model_dump(mode="json")
    settings["evaluate"] = own | {"test_time": test_time(workspace, dataset, variant)}
    attention = learned(workspace, dataset, variant, seed)
    configured = params.dataset(dataset)
    axis = configured.slice_axis if isinstance(configured, FolderDataset) else "auto"
    description = {
        "format_version": FORMAT_VERSION,
        "intended_use": configured.intended_use,
        "settings": settings,
        "slice_axis": axis,
        "thresholds": _thresholds(workspace, dataset, variant, seed, settings["classes"]),
        "training": {"seed": seed, "started_from": started_from, **written},
        "packaged_with": {"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        "state_attention": files.sha256(attention) if attention.is_file() else None,
        "provenance": dict(provenance),
    }
    with files.folder_beside(target) as folder:
        shutil.copyfile(weights, folder / WEIGHTS)
        if attention.is_file():
            shutil.copyfile(attention, folder / STATE_ATTENTION)
        text = json.dumps(description, indent=2, ensure_ascii=False)
        files.write_text(folder / DESCRIPTION, text + "\n")


def started_from(workspace: Workspace, dataset: str, variant: str) -> str:
    """The version whose network a variant's training started from, as `liver/3`, else `scratch`."""
    settings = workspace.models(dataset, variant) / "settings.json"
    written = json.loads(settings.read_text(encoding="utf-8"))
    ancestor = initial.entry(written.get("initial", initial.SCRATCH))
    return initial.SCRATCH if ancestor is None else ancestor.name


def learned(workspace: Workspace, dataset: str, variant: str, seed: int) -> Path:
    """Where stage evaluate leaves what a network has learned in order to look more than once."""
    return workspace.results(dataset, variant) / TEST_TIME / f"seed-{seed}.safetensors"


def test_time(workspace: Workspace, dataset: str, variant: str) -> dict[str, Any]:
    """How often the networks looked whose results lie here; once, before there was a choice."""
    file = workspace.results(dataset, variant) / TEST_TIME / f"{TEST_TIME}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))["settings"]
    except FileNotFoundError:
        return {}


def _thresholds(
    workspace: Workspace, dataset: str, variant: str, seed: int, classes: list[str]
) -> dict[str, Any]:
    """What package.json says of them; chosen on the seed's own predictions on validation."""
    # pandera and scikit-learn take seconds: not for those who list or check packages.
    from keyslice.evaluation import predictions
    from keyslice.evaluation.thresholds import RULE, thresholds

    try:
        table = predictions.read(workspace.results(dataset, variant) / "predictions.parquet")
        found = predictions.predicted(table[table["seed"] == seed], "validation")
    except (FileNotFoundError, ValueError):
        raise UserError(
            f"variant {variant} of {dataset} has no validation predictions with seed {seed}",
            rule="a model's operating thresholds are chosen on them",
            remedy=f"dvc repro evaluate@{dataset}-{variant}",
        ) from None
    chosen = thresholds(found.labels, found.probabilities[0], classes)
    return {
        "chosen_on": "validation",
        "rule": RULE,
        "classes": {name: one and asdict(one) for name, one in chosen.items()},
    }


def digest(folder: Path) -> str:
    """sha256 over the names and contents of all files in a folder."""
    hashes = {
        path.relative_to(folder).as_posix(): files.sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    hashes.pop(_NOTE_OF_MLFLOW, None)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def check(folder: Path) -> None:
    """Whether the folder is a package that this version can read, with the weights it names.

    MLflow loads packages without asking the registry for their hash: this is all it compares.

    Raises:
        UserError: it is not.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise UserError(
            "is no model package", where=str(folder), rule=f"it must hold a {DESCRIPTION}"
        ) from None
    found = description.get("format_version")
    if found not in READABLE:
        raise UserError(
            f"format_version is {found}",
            where=f"{folder.name}/{DESCRIPTION}",
            rule=f"this version of keyslice reads formats {' and '.join(map(str, READABLE))}",
            remedy="install the version of keyslice that made it, or make a package of the "
            "dataset's present results: keyslice register DATASET",
        )
    named = {WEIGHTS: description["provenance"][tags.WEIGHTS]}
    if attention := description.get("state_attention"):
        named[STATE_ATTENTION] = attention
    for name, expected in named.items():
        if not (folder / name).is_file() or files.sha256(folder / name) != expected:
            raise UserError(
                f"{name} is not the one that {DESCRIPTION} names",
                where=str(folder),
                rule=f"its sha256 must be {expected}",
                remedy="restore the artifacts from a backup",
            )

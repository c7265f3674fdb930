"""A model package: the network's numbers and a description; no code, nothing to unpickle.

`model.safetensors` holds the parameters and buffers as stage train wrote them. `package.json` holds
format_version, seed, settings (of the training: classes, sampler, keep, prepare, backbone, …),
slice_axis, what stage train added (weights it started from, the manifest's hash, keyslice's
version) and provenance (hashes). `keyslice.models.predictor` reads it.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from keyslice import files
from keyslice.config import FolderDataset, Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.registry import tags

FORMAT_VERSION = 1
DESCRIPTION = "package.json"
WEIGHTS = "model.safetensors"


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
        UserError: the variant has not been trained with this seed.
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
    configured = params.dataset(dataset)
    axis = configured.slice_axis if isinstance(configured, FolderDataset) else "auto"
    description = {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "settings": settings,
        "slice_axis": axis,
        **written,
        "provenance": dict(provenance),
    }
    with files.folder_beside(target) as folder:
        shutil.copyfile(weights, folder / WEIGHTS)
        files.write_text(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def digest(folder: Path) -> str:
    """sha256 over the names and contents of all files in a package."""
    hashes = {
        path.relative_to(folder).as_posix(): tags.file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def check(folder: Path) -> None:
    """Whether the folder is a package that this version can read.

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
    if found != FORMAT_VERSION:
        raise UserError(
            f"format_version is {found}",
            where=f"{folder.name}/{DESCRIPTION}",
            rule=f"this version of keyslice reads format {FORMAT_VERSION}",
            remedy="install the version of keyslice that made it",
        )

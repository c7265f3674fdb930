"""From finished results to a registered model: run commit, mirror, register, a note of it."""

import hashlib
import json
from typing import TYPE_CHECKING

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.registry.client import exists, tracking_uri
from keyslice.stages.running import only_retraining

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def publish(workspace: Workspace, params: Params, dataset: str) -> "ModelVersion":
    """Show a dataset's finished results in MLflow and register the candidate.

    Raises:
        UserError: a stage of the dataset is not up to date, or another process retrains it.
    """
    with only_retraining(workspace, [dataset], "keyslice register"):
        from keyslice.registry.mirror import Mirror

        lock_hash = versioning.lock_hash(workspace, dataset, params.variants)
        parent = Mirror(workspace, dataset).begin(lock_hash)
        return enter(workspace, params, dataset, record(workspace, params, dataset, parent))


def record(workspace: Workspace, params: Params, dataset: str, parent: str) -> str:
    """Write the run's commit and mirror its files; returns the id of the retraining's run.

    Raises:
        UserError: the tree is not the one that gave the results; no commit of it would hold them.
    """
    from keyslice.registry.mirror import Mirror

    left = versioning.stale(workspace, [dataset])
    if left:
        raise UserError(
            f"stage {left[0]} is not up to date with the files that it depends on",
            where=dataset,
            rule="only what the tree as it is now gives is recorded and registered",
            remedy=f"keyslice retrain {dataset}, and leave the files alone while it runs",
        )
    commit = versioning.run_commit(workspace, parent, f"Retraining of {dataset}\n\nRun {parent}")
    return Mirror(workspace, dataset).complete(parent, params.variants, commit)


def enter(workspace: Workspace, params: Params, dataset: str, parent: str) -> "ModelVersion":
    """Register the candidate, and note that these results have been dealt with."""
    from keyslice.registry.register import register

    made = register(workspace, params, dataset, parent)
    note = _note(workspace, params, dataset)
    files.write_text(workspace.state / "retrained" / f"{dataset}.json", json.dumps(note) + "\n")
    return made


def published(workspace: Workspace, params: Params, dataset: str) -> bool:
    """Whether the results in dvc.lock were published, to the MLflow of now; imports no MLflow."""
    file = workspace.state / "retrained" / f"{dataset}.json"
    if not (file.is_file() and exists(workspace)):
        return False
    note = _note(workspace, params, dataset)
    return None not in note.values() and json.loads(file.read_text(encoding="utf-8")) == note


def _note(workspace: Workspace, params: Params, dataset: str) -> dict[str, str | None]:
    return {
        "lock_hash": versioning.lock_hash(workspace, dataset, params.variants),
        # Hashed: the address of a server may hold a password.
        "registry": hashlib.sha256(tracking_uri(workspace).encode()).hexdigest(),
    }

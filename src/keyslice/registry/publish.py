"""From finished results to a registered model: run commit, mirror, register, a note of it."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.provenance import heads
from keyslice.registry import chronicle
from keyslice.registry.client import exists, registry_uri, tracking_uri
from keyslice.registry.origin import prepared_manifest
from keyslice.stages.running import only_retraining

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_log = logging.getLogger(__name__)


def publish(workspace: Workspace, params: Params, dataset: str) -> "ModelVersion":
    """Show a dataset's finished results in MLflow and register the candidate.

    Raises:
        UserError: the dataset is not ingested, a stage of it is not up to date, another process
            retrains it, or its model is another installation's. Nothing has been written then.
    """
    with only_retraining(workspace, [dataset], "keyslice register"):
        from keyslice.registry.mirror import Mirror

        check_current(workspace, params, dataset)
        mirror = Mirror(workspace, dataset)
        parent = mirror.begin(versioning.lock_hash(workspace, dataset, params.variants))
        chronicle.run_started(workspace, params, dataset, parent)
        with abandoned_on_error(lambda: mirror.abandon(parent, [])):
            run_id = record(workspace, params, dataset, parent)
        return enter(workspace, params, dataset, run_id)


@contextmanager
def abandoned_on_error(abandon: Callable[[], None]) -> Iterator[None]:
    """Call `abandon` where the block fails; of two failures the block's is the one to be told.

    An interruption waits for no server: the next retraining ends what it left (`Mirror.begin`).
    """
    try:
        yield
    except Exception:  # whatever it is; raised again below
        try:
            abandon()
        except Exception as error:  # MLflow may be what failed; the next retraining ends the run
            told = "a retraining's run in MLflow could not be ended (%s); the next one ends it"
            _log.warning(told, type(error).__name__)  # no traceback: it comes on the terminal
        raise


def check_current(workspace: Workspace, params: Params, dataset: str) -> None:
    """Whether the results of a dataset are those of the tree as it is, whole.

    Raises:
        UserError: they are not.
    """
    version = versioning.version(workspace, dataset)
    if version is None:
        raise UserError(
            f"dataset {dataset} is not ingested",
            rule="a dataset is ingested, then retrained, then registered",
            remedy=f"keyslice retrain {dataset}",
        )
    if versioning.lock_hash(workspace, dataset, params.variants) is None:
        raise UserError(
            f"not all stages of {dataset} have been run",
            rule="results are registered as a whole",
            remedy=f"keyslice retrain {dataset}, or dvc repro",
        )
    left = versioning.stale(workspace, [dataset])
    if left:
        raise UserError(
            f"stage {left[0]} is not up to date with the files that it depends on",
            where=dataset,
            rule="only what the tree as it is now gives is recorded and registered",
            remedy=f"keyslice retrain {dataset}, and leave the files alone while it runs",
        )
    # DVC compares stages with files; that the version is that of the files is not among it.
    if versioning.prepared_version(workspace, dataset) != version:
        raise UserError(
            f"version {version[:12]} is not that of the exams that were prepared",
            where=f"data/exams/{dataset}.dvc",
            rule="a model names the version that it was trained on; an ingestion may have been "
            "cut off",
            remedy=f"keyslice ingest {dataset}",
        )
    # Nor what a stage read: DVC hashes the exams when the stage has ended.
    if prepared_manifest(workspace, dataset) != files.sha256(workspace.manifest(dataset)):
        raise UserError(
            "was made from another manifest than the dataset's",
            where=f"data/prepared/{dataset}",
            rule="a model names the exams that it was trained on; some came in while dvc repro ran",
            remedy=f"dvc repro --force --single-item prepare@{dataset}, then "
            f"keyslice retrain {dataset}",
        )


def record(workspace: Workspace, params: Params, dataset: str, parent: str) -> str:
    """Write the run's commit and mirror its files; returns the id of the retraining's run.

    Raises:
        UserError: the tree is not the one that gave the results; no commit of it would hold them.
    """
    from keyslice.registry.mirror import Mirror

    commit = versioning.run_commit(
        workspace,
        parent,
        f"Retraining of {dataset}\n\nRun {parent}",
        check=lambda: check_current(workspace, params, dataset),
    )
    return Mirror(workspace, dataset).complete(parent, params.variants, commit)


def enter(workspace: Workspace, params: Params, dataset: str, parent: str) -> "ModelVersion":
    """Register the candidate, and note that these results have been dealt with.

    Raises:
        UserError: the tree is no longer the one that was recorded; or see `register`.
    """
    from keyslice.registry.register import register

    check_current(workspace, params, dataset)
    made = register(workspace, params, dataset, parent)
    chronicle.registered(workspace, params, made)
    heads.note(workspace)
    note = _note(workspace, params, dataset) | {"version": int(made.version)}
    files.write_text(_file(workspace, dataset), json.dumps(note) + "\n")
    return made


def published(workspace: Workspace, params: Params, dataset: str) -> int | None:
    """The version as which the results in dvc.lock were registered, in the MLflow of now.

    None: they were not. From the note of it, so that no MLflow is imported: whether the version
    has been deleted there since is not asked.
    """
    file = _file(workspace, dataset)
    if not (file.is_file() and exists(workspace)):
        return None
    noted = json.loads(file.read_text(encoding="utf-8"))
    version = noted.pop("version", None)
    note = _note(workspace, params, dataset)
    return version if note["lock_hash"] is not None and noted == note else None


def _file(workspace: Workspace, dataset: str) -> Path:
    return workspace.state / "retrained" / f"{dataset}.json"


def _note(workspace: Workspace, params: Params, dataset: str) -> dict[str, Any]:
    addresses = f"{tracking_uri(workspace)} {registry_uri(workspace)}"
    return {
        "lock_hash": versioning.lock_hash(workspace, dataset, params.variants),
        # Hashed: the address of a server may hold a password.
        "registry": hashlib.sha256(addresses.encode()).hexdigest(),
    }

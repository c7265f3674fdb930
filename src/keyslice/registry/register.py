"""The candidate becomes a version of the dataset's registered model, alias `challenger`."""

import hashlib
import json
import logging
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.registry import chronicle, loader, package, tags
from keyslice.registry.mirror import Mirror, described
from keyslice.registry.origin import prepared_manifest
from keyslice.registry.owner import CHALLENGER, is_own, refuse_anothers
from keyslice.versioning import lock

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

MODEL, PACKAGE = "model", "package"


def register(
    workspace: Workspace, params: Params, dataset: str, parent_run_id: str
) -> "ModelVersion":
    """Register the candidate that stage compare chose; returns the version.

    The same candidate with the same hashes is one version: asked again, it gets the alias again.

    Args:
        workspace: holds candidate.json, the trained model and dvc.lock.
        params: settings.
        dataset: name of the registered model.
        parent_run_id: of the retraining, mirrored completely.

    Raises:
        UserError: there is no candidate, or no run of it below the parent, or the results are no
            longer the parent's, or the model is another installation's.
    """
    mirror = Mirror(workspace, dataset)
    client = mirror.client
    refuse_anothers(client, dataset, mirror.installation)
    candidate = _candidate(workspace, dataset)
    variant, seed = candidate["variant"], int(candidate["seed"])
    parent = client.get_run(parent_run_id).data.tags
    run_id = parent.get(tags.run_tag(variant, seed))
    if run_id is None:
        raise UserError(
            f"the retraining's run {parent_run_id} names no run of {variant}, seed {seed}",
            where=dataset,
            rule="a model is registered from a mirrored run",
            remedy=f"keyslice retrain {dataset}",
        )
    if parent.get(tags.LOCK) != versioning.lock_hash(workspace, dataset, params.variants):
        raise UserError(
            f"the results have changed since run {parent_run_id} recorded them",
            where=dataset,
            rule="a model's version leads to the run that made it",
            remedy=f"keyslice retrain {dataset}",
        )
    hashes = _hashes(workspace, params, dataset, variant, seed)
    identity = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    equal = client.search_model_versions(
        f"name = '{dataset}' and tag.`{tags.IDENTITY}` = '{identity}'"
    )
    known = [version for version in equal if is_own(version, mirror.installation)]
    if known:
        client.set_registered_model_alias(dataset, CHALLENGER, known[0].version)
        return known[0]
    provenance = hashes | {
        tags.IDENTITY: identity,
        tags.COMMIT: parent.get(tags.COMMIT, ""),
        tags.REQUIREMENTS: _file_hash(workspace.root / "requirements.lock"),
    }
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        made = Path(folder) / PACKAGE
        package.build(workspace, params, dataset, variant, seed, made, provenance)
        _save(made, Path(folder) / MODEL, _signature(params.dataset(dataset).classes))
        # A folder of its own: another version may come from the same run. And not the training's
        # run, which may be another installation's.
        place = f"{MODEL}-{identity[:12]}"
        digest = package.digest(made)
        whole = package.digest(Path(folder) / MODEL)
        client.log_artifacts(parent_run_id, str(Path(folder) / MODEL), place)
    if not client.search_registered_models(f"name = '{dataset}'"):
        classes = ", ".join(params.dataset(dataset).classes)
        client.create_registered_model(dataset, description=f"Classifies exams: {classes}.")
    runs = {tags.RETRAINING_RUN: parent_run_id, tags.TRAINING_RUN: run_id}
    figures = {tags.VALIDATION_AUC: str(candidate["validation_auc"])}
    own = {tags.PACKAGE: digest, tags.ARTIFACT: whole, tags.INSTALLATION: mirror.installation}
    chronicle.registering(workspace, dataset, identity)
    made = client.create_model_version(
        dataset,
        source=f"{client.get_run(parent_run_id).info.artifact_uri}/{place}",
        run_id=parent_run_id,
        tags=provenance | runs | figures | own,
        description=_described(candidate, params.dataset(dataset).intended_use),
    )
    client.set_registered_model_alias(dataset, CHALLENGER, made.version)
    return client.get_model_version(dataset, made.version)


def _described(candidate: dict[str, Any], intended_use: str) -> str:
    """What MLflow shows with the version."""
    intended = f"Intended use: {intended_use}" if intended_use else ""
    return "\n\n".join(filter(None, (described(candidate), intended)))


def _candidate(workspace: Workspace, dataset: str) -> dict:
    try:
        text = (workspace.comparison(dataset) / "candidate.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"the variants of {dataset} have not been compared",
            rule="stage compare chooses the candidate",
            remedy=f"dvc repro compare@{dataset}",
        ) from None
    return json.loads(text)


def _hashes(
    workspace: Workspace, params: Params, dataset: str, variant: str, seed: int
) -> dict[str, str]:
    """What the version is and what it came from; the same hashes are the same model."""
    settings = params.stage(dataset, variant).model_dump_json()
    weights = workspace.models(dataset, variant) / f"seed-{seed}" / package.WEIGHTS
    attention = package.learned(workspace, dataset, variant, seed)
    return {
        tags.DATASET: dataset,
        tags.VARIANT: variant,
        tags.SEED: str(seed),
        tags.VERSION: versioning.prepared_version(workspace, dataset) or "",
        tags.MANIFEST: prepared_manifest(workspace, dataset),
        tags.PARAMETERS: hashlib.sha256(settings.encode()).hexdigest(),
        tags.WEIGHTS: _file_hash(weights),
        tags.STATE_ATTENTION: _file_hash(attention),
        tags.STARTED_FROM: package.started_from(workspace, dataset, variant),
        tags.PACKAGE_FORMAT: str(package.FORMAT_VERSION),
        **{
            tags.stage_tag(kind): lock.stage_hash(workspace, stage) or ""
            for kind, stage in lock.stages_of(dataset, variant).items()
        },
    }


def _file_hash(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _signature(classes: tuple[str, ...]) -> "ModelSignature":
    """Of `keyslice.registry.loader.ExamModel.predict`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, loader.FILE, required=False),
        ColSpec(AnyType(), loader.FRAMES, required=False),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, loader.LABEL),
        ColSpec(Array(DataType.string), loader.ABOVE),
        *(ColSpec(DataType.double, f"{loader.PROBABILITY}.{name}") for name in classes),
        ColSpec(Array(DataType.long), loader.KEPT),
        ColSpec(Array(DataType.double), loader.ATTENTION),
    ]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _save(source: Path, target: Path, signature: "ModelSignature") -> None:
    """The package as an MLflow model, loaded by the installed package."""
    import mlflow.pyfunc

    # No input example: it would be an exam, and exams do not leave data/.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example.*")
        mlflow.pyfunc.save_model(
            str(target),
            loader_module=loader.__name__,
            data_path=str(source),
            signature=signature,
            # Given, not inferred: that takes half a minute.
            pip_requirements=[f"keyslice=={installed('keyslice')}"],
        )

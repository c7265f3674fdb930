"""What the registry tells the ledger of runs and of registered versions."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keyslice import __version__, versioning
from keyslice.config import Params, Workspace
from keyslice.provenance import canonical, events, heads, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import tags
from keyslice.versioning import lock, objects

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FACTS: Mapping[str, str] = {
    "dataset_version": tags.VERSION,
    "manifest": tags.MANIFEST,
    "variant": tags.VARIANT,
    "seed": tags.SEED,
    "run": tags.RETRAINING_RUN,
    "training_run": tags.TRAINING_RUN,
    "run_commit": tags.COMMIT,
    "parameters": tags.PARAMETERS,
    "weights": tags.WEIGHTS,
    "state_attention": tags.STATE_ATTENTION,
    "package": tags.PACKAGE,
    "artifact": tags.ARTIFACT,
    "requirements": tags.REQUIREMENTS,
    "validation_auc": tags.VALIDATION_AUC,
    "identity": tags.IDENTITY,
    "started_from": tags.STARTED_FROM,
}
"""Of a registered version: name in the event's payload, and the version's tag of the same text."""


def plan_of(params: Params, dataset: str) -> dict[str, Any]:
    """What a candidate of the dataset will be judged by, as JSON."""
    return params.promote_settings(dataset).model_dump(mode="json")


def run_started(workspace: Workspace, params: Params, dataset: str, run: str) -> Event:
    """Fix the plan before anything is trained; says what had been trained by then.

    Args:
        workspace: whose ledger.
        params: settings.
        dataset: that is to be retrained.
        run: its id in MLflow; empty where there is none yet.
    """
    plan = plan_of(params, dataset)
    # Of every variant that DVC knows, also those that params.yaml leaves out today.
    trained = lock.trained_before(workspace, dataset, objects.cache(workspace).root)
    payload = {
        "dataset": dataset,
        "run": run,
        "plan": plan,
        "plan_sha256": canonical.sha256(plan),
        "dataset_version": versioning.version(workspace, dataset),
        "trained": trained,
    }
    event = ledger.append(workspace, events.RUN_STARTED, dataset, payload)
    heads.note(workspace)  # signed now: it cannot be written anew once results are seen
    return event


def registering(workspace: Workspace, model: str, identity: str) -> Event:
    """Tell that a version is about to be registered: MLflow numbers it before the ledger can."""
    payload = {"model": model, "identity": identity}
    return ledger.append(workspace, events.MODEL_REGISTERING, model, payload)


def registered(workspace: Workspace, params: Params, version: "ModelVersion") -> Event:
    """Tell of a registered version; of one that is told of already, that it is challenger again."""
    name, number = version.name, int(version.version)
    found = ledger.read(workspace)
    known = standing.registered(found, name, number)
    if known is not None:
        if standing.challenger(found, name) != number:
            again = {"model": name, "version": number}
            about = events.named(name, number)
            ledger.append(workspace, events.CHALLENGER_MOVED, about, again)
        return known
    facts: dict[str, Any] = {key: version.tags.get(tag, "") for key, tag in FACTS.items()}
    variant = facts["variant"]
    metrics = (workspace.results(name, variant) / "metrics.json").read_text(encoding="utf-8")
    payload = facts | {
        "model": name,
        "version": number,
        "seed": int(facts["seed"]),
        "validation_auc": float(facts["validation_auc"]),
        "stages": {stage: version.tags.get(tags.stage_tag(stage), "") for stage in lock.KINDS},
        "trained": versioning.stage_hash(workspace, f"train@{name}-{variant}"),
        "settings": params.stage(name, variant).model_dump(mode="json"),
        "classes": list(params.dataset(name).classes),
        "figures": json.loads(metrics).get("seeds", {}).get(facts["seed"], {}),
        "keyslice": __version__,
    }
    return ledger.append(workspace, events.MODEL_REGISTERED, events.named(name, number), payload)


def is_here(workspace: Workspace, version: Event, kind: str = "evaluate") -> bool:
    """Whether the workspace's results of a kind of stage are those of a registered version."""
    told = version.payload
    stage = lock.stages_of(told["model"], told["variant"])[kind]
    return lock.stage_hash(workspace, stage) == told["stages"][kind]


def plan_before_training(found: list[Event], version: Event) -> Event | None:
    """The plan that was fixed last before a version was trained; None: none was.

    Training counts as done from the first event that tells of it: of a retraining that was cut off,
    the plan of the attempt counts in which the version was trained.

    Args:
        found: all events.
        version: of the version's registration.
    """
    trained = version.payload["trained"]
    fixed = None
    for event in found:
        if event.action == events.RUN_STARTED and event.object == version.payload["model"]:
            if trained in event.payload["trained"]:
                break
            fixed = event
        told_by = event.action == events.MODEL_REGISTERED and event.payload.get("trained")
        if told_by == trained:
            break
    return fixed

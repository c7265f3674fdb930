"""Is there anything to do? Answered before Prefect, MLflow, torch or pandas are imported."""

from collections.abc import Iterable

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.exams.fingerprint import source_unchanged
from keyslice.registry.publish import published


def due(workspace: Workspace, params: Params, datasets: Iterable[str]) -> list[str]:
    """Why a retraining of the datasets would do work, a line for each reason; empty: it would not.

    Raises:
        UserError: a dataset is not configured.
    """
    datasets = list(datasets)
    reasons = {name: _source(workspace, params, name) for name in datasets}
    ingested = [name for name, reason in reasons.items() if reason != _NEVER]
    stale = versioning.stale(workspace, ingested) if ingested else []
    for name in ingested:
        if reasons[name]:
            continue
        left = [stage for stage in stale if versioning.dataset_of(stage) == name]
        if left:
            reasons[name] = f"out of date: {', '.join(left)}"
        elif not published(workspace, params, name):
            reasons[name] = "its results are not registered"
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason]


_NEVER = "not ingested yet"


def _source(workspace: Workspace, params: Params, name: str) -> str:
    """What speaks for an ingestion; empty: nothing."""
    dataset = params.dataset(name)
    if versioning.version(workspace, name) is None:
        return _NEVER
    return "" if source_unchanged(workspace, name, dataset) else "its source has changed"

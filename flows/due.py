"""Is there anything to do? Answered before Prefect, MLflow, torch or pandas are imported."""

from collections.abc import Iterable, Sequence

from flows import telling
from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.exams.fingerprint import source_state
from keyslice.provenance import ledger, standing
from keyslice.registry.publish import published
from keyslice.stages.running import only_retraining


def due(workspace: Workspace, params: Params, datasets: Iterable[str]) -> list[str]:
    """Why a retraining of the datasets would do work, a line for each reason; empty: it would not.

    Raises:
        UserError: a dataset is not configured, or another process retrains or registers it.
    """
    datasets = list(datasets)
    with only_retraining(workspace, datasets, "keyslice retrain"):  # else it changes meanwhile
        return held_due(workspace, params, datasets)


def held_due(workspace: Workspace, params: Params, datasets: Iterable[str]) -> list[str]:
    """`due`, for one who holds the datasets (`only_retraining`)."""
    datasets = list(datasets)
    sources = {name: source(workspace, params, name) for name in datasets}
    ingested = [name for name in datasets if sources[name] != _NEVER]
    stale = versioning.stale(workspace, ingested) if ingested else []
    reasons = {n: sources[n] or beyond_source(workspace, params, n, stale) for n in datasets}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason]


def beyond_source(workspace: Workspace, params: Params, name: str, stale: Iterable[str]) -> str:
    """Why a retraining of an ingested dataset would do work though its source is as it was.

    Empty: it would not. `stale`: stages that are not up to date, whichever dataset's.
    """
    if left := [stage for stage in stale if versioning.dataset_of(stage) == name]:
        return f"out of date: {in_words(left, name, list(params.variants))}"
    return _unfinished(workspace, params, name)


def _unfinished(workspace: Workspace, params: Params, name: str) -> str:
    """What a retraining does after its stages and has not done; empty: nothing."""
    number = published(workspace, params, name)
    if number is None:
        return "its results are not registered"
    found = ledger.read(workspace)
    judged = number == standing.champion(found, name) or standing.gate(found, name, number)
    if not judged or standing.unfinished(found, name):
        return f"the gate of version {number} has not come to its end"
    if telling.find(workspace, name) is not None:
        return f"not everybody has been told of version {number}"
    if left := versioning.unpushed(workspace, name, params.versioning.push):
        return f"not pushed to {', '.join(left)}"
    if params.versioning.commit and versioning.uncommitted(workspace, name):
        return "not committed"
    return ""


def in_words(stages: Iterable[str], dataset: str, variants: Sequence[str]) -> str:
    """Stages of a dataset, short: `prepare, train and evaluate 8 of 8, compare`.

    One or two variants are named, more are counted.
    """
    left = set(stages)
    train, evaluate = (
        [v for v in variants if f"{name}@{dataset}-{v}" in left] for name in ("train", "evaluate")
    )
    each = {"train and evaluate": train}
    if train != evaluate:
        each = {"train": train, "evaluate": evaluate}
    words = [f"{name} {_some(found, variants)}" for name, found in each.items() if found]
    if f"prepare@{dataset}" in left:
        words.insert(0, "prepare")
    if f"compare@{dataset}" in left:
        words.append("compare")
    return ", ".join(words)


def _some(found: list[str], variants: Sequence[str]) -> str:
    return " and ".join(found) if len(found) <= 2 else f"{len(found)} of {len(variants)}"


_NEVER = "not ingested yet"
SOURCE_CHANGED = "its source or settings of it have changed"
SOURCE_UNSEEN = "its source cannot be seen; is a drive not mounted?"
_SOURCE = {
    "unchanged": "",
    "changed": SOURCE_CHANGED,
    "unseen": SOURCE_UNSEEN,
}


def source(workspace: Workspace, params: Params, name: str) -> str:
    """What speaks for an ingestion, or against it; empty: nothing."""
    dataset = params.dataset(name)
    if versioning.version(workspace, name) is None:
        return _NEVER
    return _SOURCE[source_state(workspace, name, dataset)]

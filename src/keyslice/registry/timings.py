"""Wall times that stage latency measured, as long as they are those of the models of now."""

import json

from keyslice import versioning
from keyslice.config import Workspace


def key(workspace: Workspace, dataset: str, variant: str) -> str | None:
    """Of a variant's trained model: the hash of stage train in dvc.lock; None: not trained."""
    return versioning.stage_hash(workspace, f"train@{dataset}-{variant}")


def current(workspace: Workspace, dataset: str, variant: str) -> dict[str, float] | None:
    """The figures of a variant; None: not measured, or measured on a model of another training."""
    file, wanted = workspace.timings(dataset, variant), key(workspace, dataset, variant)
    if wanted is None or not file.is_file():
        return None
    figures = json.loads(file.read_text(encoding="utf-8"))
    return figures if figures.pop("model", None) == wanted else None

"""Wall times that stage latency measured, as long as they are those of the models of now."""

import json

from keyslice import versioning
from keyslice.config import Workspace


def key(workspace: Workspace, dataset: str, variant: str) -> str | None:
    """Of a variant's model as it is used: of its stages train and evaluate in dvc.lock, since it
    may learn in the latter to look more than once; None: one of them has not been run.
    """
    stages = (f"{kind}@{dataset}-{variant}" for kind in ("train", "evaluate"))
    return versioning.stage_hash(workspace, *stages)


def current(workspace: Workspace, dataset: str, variant: str) -> dict[str, float] | None:
    """The figures of a variant; None: not measured, or measured on another model."""
    file, wanted = workspace.timings(dataset, variant), key(workspace, dataset, variant)
    if wanted is None or not file.is_file():
        return None
    figures = json.loads(file.read_text(encoding="utf-8"))
    return figures if figures.pop("model", None) == wanted else None

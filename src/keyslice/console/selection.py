"""Which datasets a command is about."""

import yaml

from keyslice.config import Params, Workspace
from keyslice.errors import UserError


def chosen(workspace: Workspace, params: Params, datasets: tuple[str, ...]) -> tuple[str, ...]:
    """The datasets named, else all that have been ingested.

    Raises:
        UserError: one is not configured; or none is named and none has been ingested.
    """
    for name in datasets:
        params.dataset(name)
    if datasets:
        return tuple(dict.fromkeys(datasets))
    listed = yaml.safe_load(workspace.ingested.read_text(encoding="utf-8"))["ingested"]
    found = tuple(name for name in listed if name in params.datasets)
    if not found:
        raise UserError(
            "no dataset has been ingested yet",
            rule="name one to ingest and retrain it",
            remedy=f"keyslice retrain {next(iter(params.datasets))}",
        )
    return found

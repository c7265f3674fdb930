"""Which datasets a command is about."""

from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.exams.listed import bring_in_line


def chosen(workspace: Workspace, params: Params, datasets: tuple[str, ...]) -> tuple[str, ...]:
    """The datasets named, else all that have been ingested; DVC's list of them is put right.

    Raises:
        UserError: one is not configured; or none is named and none has been ingested.
    """
    for name in datasets:
        params.dataset(name)
    found = bring_in_line(workspace, params)
    if datasets:
        return tuple(dict.fromkeys(datasets))
    if not found:
        raise UserError(
            "no dataset has been ingested yet",
            rule="name one to ingest and retrain it",
            remedy=f"keyslice retrain {next(iter(params.datasets))}",
        )
    return found

"""A model's version as a person names it: MODEL, MODEL@alias, MODEL/3."""

from keyslice.config import Workspace
from keyslice.provenance import ledger, naming, standing


def version(workspace: Workspace, text: str) -> tuple[str, int]:
    """Model and number, by the ledger: MODEL alone is the champion, else the challenger.

    Raises:
        UserError: there is no such model, version or alias.
    """
    found = ledger.readable(workspace)  # verify names what is wrong with the others
    model, at, rest = text.partition("@")
    if not at:
        model, _, rest = text.partition("/")
    reigning = standing.champion(found, model) is not None
    registered = naming.model_version(
        found, model, rest or ("champion" if reigning else "challenger")
    )
    return model, int(registered.payload["version"])

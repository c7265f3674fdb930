"""A model's version as a person names it: MODEL, MODEL@alias, MODEL/3."""

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import chain, ledger, naming, standing


def version(workspace: Workspace, text: str) -> tuple[str, int]:
    """Model and number, by the ledger: MODEL alone is the champion, else the challenger.

    Raises:
        UserError: there is no such model, version or alias; or the ledger that would tell of it is
            damaged.
    """
    found = ledger.readable(workspace)  # verify names what is wrong with the others
    model, at, rest = text.partition("@")
    if not at:
        model, _, rest = text.partition("/")
    reigning = standing.champion(found, model) is not None
    try:
        registered = naming.model_version(
            found, model, rest or ("champion" if reigning else "challenger")
        )
    except UserError as error:
        altered = [fault for fault in chain.check(workspace).faults if not fault.unsigned]
        if not altered:
            raise
        raise UserError(
            f"event {altered[0].number} {altered[0].what}",
            where="state/ledger",
            rule=f"the ledger says what versions there are ({error})",
            remedy="keyslice ledger verify tells more; restore state/ledger from its backup",
        ) from None
    return model, int(registered.payload["version"])

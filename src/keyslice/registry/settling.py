"""Before and after what the ledger is told of: what a kill left undone, and heads."""

from collections.abc import Callable

from keyslice.config import Params, Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance import chain, heads, ledger, signing, withdrawn
from keyslice.registry import client, marks

Tell = Callable[[str], None]
"""Shows a line to whoever is there."""


def resume(workspace: Workspace, tell: Tell) -> None:
    """Complete withdrawals that were begun; tells so. Costs nothing where there are none.

    A key that cannot sign is found now, not when the work is done; and so is what nobody signed.

    Raises:
        UserError: the key cannot sign, or none is set where others sign; or see
            `keyslice.provenance.chain.check_signed`.
        UserError, RunError: as `keyslice.provenance.withdrawal.withdraw`.
    """
    if (key := signing.key(workspace)) is not None:
        signing.sign(key, "", signing.HEAD)
    elif signing.signers(workspace) is not None:
        raise UserError(
            f"{signing.SIGNERS_VARIABLE} names who signs, and {signing.KEY_VARIABLE} is not set",
            rule="where signatures are in use, every command signs what it tells the ledger",
            remedy=f"set {signing.KEY_VARIABLE} to your key",
        )
    chain.check_signed(workspace)
    if not withdrawn.notes(workspace):
        return
    from keyslice.provenance import withdrawal

    for done in withdrawal.resume(workspace):
        names = ", ".join(part.dataset for part in done.plan.parts)
        tell(f"completed a withdrawal from {names} that had been cut off")
    mark(workspace)


def mark(workspace: Workspace) -> None:
    """Mark in MLflow the versions that learned from who has withdrawn."""
    found = ledger.read(workspace)
    if (affected := withdrawn.models_affected(found)) and client.exists(workspace):
        connected = client.connect(workspace)
        for model, version in affected:
            marks.put(connected, found, model, version)


def push(workspace: Workspace, params: Params, tell: Tell) -> None:
    """Push the ledger's heads and run commits to the remote that is set; tells where it cannot."""
    if params.ledger.remote is None:
        return
    try:
        heads.push(workspace, params.ledger.remote)
    except (RunError, UserError) as error:
        tell(f"the ledger's heads were not pushed: {error}; the next command tries again")

"""Back to an earlier champion, and back to where the ledger says the alias is."""

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import ledger, naming, standing
from keyslice.registry import champion
from keyslice.registry.champion import Moved
from keyslice.registry.client import existing


def rollback(workspace: Workspace, model: str, reason: str, *, to: int | None = None) -> Moved:
    """Make an earlier champion the champion again.

    Args:
        workspace: whose registry.
        model: its name.
        reason: in the words of whoever does it; stays in the ledger.
        to: that version; default: the champion before the present one.

    Raises:
        UserError: there is no such earlier champion, or the alias was moved behind the ledger's
            back.
    """
    client = existing(workspace)
    with ledger.exclusive(workspace):
        champion.take_up(workspace, client, model)
        found = ledger.read(workspace)
        champion.check_alias(client, found, model)
        now = standing.champion(found, model)
        past = [reign.version for reign in standing.reigns(found, model)]
        earlier = list(dict.fromkeys(v for v in reversed(past) if v not in (None, now)))
        if to is None and not earlier:
            raise UserError(
                "has had no other champion" if now else "has had no champion",
                where=f"model {model}",
                rule="a rollback makes an earlier champion the champion again",
                remedy=f"keyslice approve {model} VERSION makes another version the champion",
            )
        if to is not None:
            naming.model_version(found, model, str(to))
        if to is not None and to not in earlier:
            known = ", ".join(map(str, earlier)) or "none"
            raise UserError(
                f"version {to} is the champion"
                if to == now
                else f"version {to} never was champion",
                where=f"model {model}",
                rule=f"a rollback goes to an earlier champion: {known}",
                remedy=f"keyslice approve {model} {to} is the way for any other version",
            )
        return champion.move(
            workspace,
            client,
            model,
            earlier[0] if to is None else to,
            because="rollback",
            decision=None,
            reason=reason,
        )


def restore(workspace: Workspace, model: str, reason: str) -> Moved | None:
    """Put the alias back to where the ledger says it is; None: it is there.

    Raises:
        UserError: by the ledger the model is not known.
    """
    client = existing(workspace)
    with ledger.exclusive(workspace):
        settled = champion.take_up(workspace, client, model)
        found = ledger.read(workspace)
        told = standing.champion(found, model)
        if champion.alias(client, model) == told:
            return settled
        return champion.move(
            workspace,
            client,
            model,
            told,
            because="restoration",
            decision=None,
            reason=reason,
        )

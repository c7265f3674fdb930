"""The alias `champion` in MLflow, moved only together with the ledger.

The ledger is told first that it will move, then it moves, then the ledger is told that it has. A
process that ends in between leaves an intent, which the next command carries out (`take_up`). So an
alias that is elsewhere than the ledger says, with no intent open, was moved by someone else.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance import events, heads, ledger, standing, withdrawn
from keyslice.provenance.ledger import Event
from keyslice.registry import marks
from keyslice.registry.owner import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

Reason = Literal["promotion", "rollback", "restoration"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moved:
    """A move of the alias that has been made."""

    model: str
    before: int | None
    after: int | None
    event: Event


def alias(client: "MlflowClient", model: str) -> int | None:
    """The version that MLflow's alias is on."""
    found = client.search_registered_models(f"name = '{model}'")
    number = found[0].aliases.get(CHAMPION) if found else None
    return int(number) if number else None


def check_alias(client: "MlflowClient", found: list[Event], model: str) -> None:
    """Whether MLflow's alias is where the ledger says.

    Raises:
        UserError: it was moved behind the ledger's back.
    """
    told, seen = standing.champion(found, model), alias(client, model)
    if told != seen:
        raise UserError(
            f"@{CHAMPION} is on {words(seen)}, by the ledger it is {words(told)}",
            where=f"model {model}",
            rule="the alias moves by keyslice approve and keyslice rollback alone",
            remedy=f"find out who did; keyslice champion {model} --restore REASON puts it back",
        )


def check_followed(workspace: Workspace, client: "MlflowClient", model: str) -> None:
    """`check_alias` for who only follows the alias.

    Passes what this ledger does not tell of, such as a model of another workspace, and a move that
    is under way or was cut off.

    Raises:
        UserError: it was moved behind the ledger's back.
    """
    found = ledger.readable(workspace)
    if standing.of_model(found, model) and standing.unfinished(found, model) is None:
        check_alias(client, found, model)


def move(
    workspace: Workspace,
    client: "MlflowClient",
    model: str,
    to: int | None,
    *,
    because: Reason,
    decision: int | None,
    reason: str,
) -> Moved:
    """Put the alias on a version; the ledger's lock is held meanwhile.

    Warns of one that was made from exams which have been withdrawn.

    Args:
        workspace: whose ledger.
        client: of MLflow.
        model: its name.
        to: the version; None takes the alias away.
        because: what kind of move it is.
        decision: number of the event that decided it.
        reason: in a person's words.
    """
    with ledger.exclusive(workspace):
        found = ledger.read(workspace)
        if to is not None and (count := withdrawn.models_affected(found).get((model, to))):
            through = withdrawn.through(found, model, to)
            logger.warning(
                "%s version %d was made from %s withdrawn since%s; keyslice retrain %s makes one "
                "that was not",
                model,
                to,
                "1 exam that was" if count == 1 else f"{count} exams that were",
                "" if through is None else f", through version {through}, which it started from",
                model,
            )
        intent = {
            "model": model,
            "from": standing.champion(found, model),
            "to": to,
            "because": because,
            "decision": decision,
            "reason": reason,
        }
        intended = ledger.append(workspace, events.CHAMPION_MOVING, model, intent)
        return _carry_out(workspace, client, intended)


def settle(workspace: Workspace, client: "MlflowClient", model: str) -> Moved | None:
    """Carry out what has been decided and is not done; None: there is nothing.

    Marks in MLflow that are not set yet are set, too.
    """
    with ledger.exclusive(workspace):
        found = ledger.read(workspace)
        left = standing.unfinished(found, model)
        moved = None
        if left is not None and left.action == events.CHAMPION_MOVING:
            moved = _carry_out(workspace, client, left)
        elif left is not None:
            moved = move(
                workspace,
                client,
                model,
                left.payload["version"],
                because="promotion",
                decision=left.number,
                reason=left.payload.get("reason", ""),
            )
        marks.complete(client, ledger.read(workspace), model)
        return moved


def take_up(workspace: Workspace, client: "MlflowClient", model: str) -> Moved | None:
    """`settle` before anything else is done: a process that was cut off left it. Says so."""
    moved = settle(workspace, client, model)
    if moved is not None:
        logger.warning(
            "a move of %s@%s had been cut off; it is on %s now",
            model,
            CHAMPION,
            words(moved.after),
        )
    return moved


def _carry_out(workspace: Workspace, client: "MlflowClient", intent: Event) -> Moved:
    payload: dict[str, Any] = dict(intent.payload)
    model, to = payload["model"], payload["to"]
    from mlflow.exceptions import MlflowException

    try:
        if to is None:
            client.delete_registered_model_alias(model, CHAMPION)
        else:
            client.set_registered_model_alias(model, CHAMPION, str(to))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RunError(f"MLflow did not move @{CHAMPION}: {error}") from error
        stayed = {"model": model, "intent": intent.number, "reason": str(error)}
        ledger.append(workspace, events.CHAMPION_STAYED, model, stayed, by=intent.actor)
        raise UserError(
            f"{words(to)} is not in MLflow any more",
            where=f"model {model}",
            rule="the champion is a version that MLflow has",
            remedy="restore MLflow's database from its backup, or choose another version",
        ) from None
    done = payload | {"intent": intent.number}
    event = ledger.append(workspace, events.CHAMPION_MOVED, model, done, by=intent.actor)
    heads.note(workspace)
    return Moved(model, payload["from"], to, event)


def words(version: int | None) -> str:
    """`version 3`, or that there is none."""
    return "no version" if version is None else f"version {version}"

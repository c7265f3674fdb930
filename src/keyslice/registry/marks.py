"""What MLflow shows of the ledger on a model's version: how its gate and its decision went.

The ledger holds these; the tags are a copy for whoever looks at MLflow, and `keyslice verify` holds
them against it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keyslice.provenance import events, standing, withdrawn
from keyslice.provenance.ledger import Event

if TYPE_CHECKING:
    from mlflow import MlflowClient

GATE, DECISION, WITHDRAWN = "keyslice.gate", "keyslice.decision", "keyslice.withdrawn"
NAMES = (GATE, DECISION, WITHDRAWN)


def of(found: Sequence[Event], model: str, version: int) -> dict[str, str]:
    """The tags that a version has by the ledger."""
    marks = {}
    if (gate := standing.gate(found, model, version)) is not None:
        marks[GATE] = f"{gate.payload['outcome']} (event {gate.number})"
    if (decided := standing.decision(found, model, version)) is not None:
        word = "approved" if decided.action == events.MODEL_APPROVED else "rejected"
        overridden = ", overriding the gate" if decided.payload["override"] else ""
        marks[DECISION] = f"{word} by {decided.actor}{overridden} (event {decided.number})"
    if number := withdrawn.models_affected(found).get((model, version)):
        through = withdrawn.through(found, model, version)
        its = "its dataset version's exams"
        if through is not None:
            its = f"the exams of version {through}, which it started from,"
        marks[WITHDRAWN] = f"{number} of {its} have been withdrawn"
    return marks


def put(client: "MlflowClient", found: Sequence[Event], model: str, version: int) -> None:
    """Set a version's marks as the ledger has them now."""
    for tag, text in of(found, model, version).items():
        client.set_model_version_tag(model, str(version), tag, text)


def complete(client: "MlflowClient", found: Sequence[Event], model: str) -> None:
    """Set the marks that are missing, as after a kill; one that differs is for verify to tell."""
    told = {e.payload["version"] for e in standing.of_model(found, model) if "version" in e.payload}
    if not told:
        return
    for version in client.search_model_versions(f"name = '{model}'"):
        number = int(version.version)
        if number in told:
            for tag, text in of(found, model, number).items():
                if tag not in version.tags:
                    client.set_model_version_tag(model, str(number), tag, text)

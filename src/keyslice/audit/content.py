"""All that an audit says, as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from keyslice import __version__
from keyslice.audit import standards
from keyslice.audit.checks import reproductions, verification
from keyslice.audit.data import data
from keyslice.audit.decisions import decisions
from keyslice.audit.drift import drift
from keyslice.audit.evaluation import evaluation
from keyslice.audit.gate import gate
from keyslice.audit.identity import identity
from keyslice.audit.records import records
from keyslice.audit.subject import Subject, when
from keyslice.audit.training import training
from keyslice.provenance.evidence import Item

FORMAT = "keyslice-audit/1"
"""Of the JSON; the number grows when a key changes its meaning or goes."""


def content(one: Subject, verified: Sequence[Item] | None) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        one: the version.
        verified: what `keyslice.registry.verification.verify` found; None: it was not run.

    Raises:
        UserError: the quarantine list was edited into something else.
    """
    told: dict[str, Any] = {
        "format": FORMAT,
        "written": when(datetime.now(UTC)),
        "keyslice": __version__,
        "identity": identity(one),
        "data": data(one),
        "training": training(one),
        "evaluation": evaluation(one),
        "gate": gate(one),
        "decisions": decisions(one),
        "drift": drift(one),
        "verification": verification(one, verified),
        "reproductions": reproductions(one),
        "ledger": records(one),
    }
    return told | {"standards": standards.answered(told)}

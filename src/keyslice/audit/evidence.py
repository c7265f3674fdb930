"""What an audit can hold as evidence, where on the page it stands, and whether this one has it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Content = Mapping[str, Any]
"""Of `keyslice.audit.content.content`, without the standards."""


@dataclass(frozen=True)
class Evidence:
    """A part of the page."""

    anchor: str
    """Its id there."""
    name: str
    there: Callable[[Content], Any]
    """Whether it says anything."""


def _always(content: Content) -> bool:
    return True


def _known(values: list[dict[str, Any]] | None) -> bool:
    """Whether a value is told at all of any exam."""
    return any(one["name"] != "unknown" for one in values or [])


EVIDENCE: dict[str, Evidence] = {
    "intended_use": Evidence(
        "intended-use", "intended use", lambda c: c["identity"]["intended_use"]
    ),
    "version": Evidence("identity", "identity and version", _always),
    "code": Evidence("code", "commit of the code", lambda c: c["identity"]["code"]["run_commit"]),
    "package": Evidence("code", "package", lambda c: c["identity"]["package_readable"]),
    "software": Evidence(
        "environment",
        "software and its versions",
        lambda c: c["identity"]["environment"]["packaged_with"],
    ),
    "device": Evidence(
        "environment", "device of training", lambda c: c["identity"]["environment"]["device"]
    ),
    "counts": Evidence(
        "counts", "exams and patients by split and label", lambda c: c["data"]["counts"]
    ),
    "flow": Evidence("flow", "flow of exams", lambda c: c["data"]["counts"]),
    "sites": Evidence("origin", "sites", lambda c: _known((c["data"]["groups"] or {}).get("site"))),
    "modalities": Evidence(
        "origin", "modalities", lambda c: _known((c["data"]["groups"] or {}).get("modality"))
    ),
    "acquisition": Evidence("origin", "formats and geometry", lambda c: c["data"]["measures"]),
    "years": Evidence("origin", "years of acquisition", lambda c: c["data"]["years"]),
    "label_source": Evidence(
        "origin",
        "origin of the labels",
        lambda c: _known((c["data"]["groups"] or {}).get("label_source")),
    ),
    "pseudonyms": Evidence("privacy", "how patients are protected", _always),
    "data_versions": Evidence("versions", "versions of the data", lambda c: c["data"]["versions"]),
    "withdrawals": Evidence("withdrawals", "withdrawals", _always),
    "settings": Evidence("settings", "settings of training", _always),
    "seeds": Evidence("settings", "seeds", _always),
    "start": Evidence("settings", "starting weights", lambda c: c["training"]["started_from"]),
    "curves": Evidence("curves", "training curves", lambda c: c["training"]["curves"]),
    "figures": Evidence(
        "figures", "figures", lambda c: c["evaluation"]["splits"]["test"]["figures"]
    ),
    "intervals": Evidence(
        "figures", "intervals", lambda c: c["evaluation"]["from"] == "predictions"
    ),
    "subgroups": Evidence("subgroups", "subgroups", lambda c: c["evaluation"]["subgroups"]),
    "recalls": Evidence("subgroups", "figures by class", lambda c: c["evaluation"]["recalls"]),
    "calibration": Evidence("calibration", "calibration", lambda c: c["evaluation"]["calibration"]),
    "confusion": Evidence("confusion", "confusion matrix", lambda c: c["evaluation"]["confusion"]),
    "thresholds": Evidence(
        "thresholds", "operating thresholds", lambda c: c["evaluation"]["thresholds"]
    ),
    "plan": Evidence("plan", "change plan, fixed before training", lambda c: c["gate"]["plan"]),
    "power": Evidence(
        "gate",
        "power of the test set",
        lambda c: (c["gate"]["last"] or {}).get("power") is not None,
    ),
    "gate": Evidence("gate", "outcome of the gate", lambda c: c["gate"]["last"]),
    "criteria": Evidence("criteria", "criteria of the gate", lambda c: c["gate"]["criteria"]),
    "decision": Evidence(
        "decisions", "approval or rejection", lambda c: c["decisions"]["decisions"]
    ),
    "champions": Evidence("champions", "champions so far", lambda c: c["decisions"]["reigns"]),
    "drift": Evidence(
        "drift", "drift of new exams", lambda c: c["drift"]["before"] or c["drift"]["since"]
    ),
    "verification": Evidence("verification", "verification", lambda c: c["verification"]),
    "reproductions": Evidence("reproductions", "reproduction", lambda c: c["reproductions"]),
    "ledger": Evidence("ledger", "events in the ledger", _always),
}
"""By the name that the standards use."""

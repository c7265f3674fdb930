"""`keyslice status`: datasets and versions, what is out of date, models."""

from collections import Counter
from typing import Any

from rich.table import Table

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json
from keyslice.exams import manifest, quarantine
from keyslice.exams.fingerprint import source_unchanged
from keyslice.exams.source import UNKNOWN
from keyslice.registry.models import Model, models


def run(workspace: Workspace, params: Params, *, as_json: bool) -> None:
    """Print what there is and what is due."""
    with err.status("looking"):
        datasets = _datasets(workspace, params)
        registered = models(workspace)
    if as_json:
        print_json({"datasets": datasets, "models": [_model(model) for model in registered]})
        return
    out.print(_dataset_table(datasets))
    for name, facts in datasets.items():
        if facts["due"]:
            out.print(f"[yellow]{name}[/yellow]: {facts['due']}", soft_wrap=True)
    out.print()
    if registered:
        out.print(_model_table(registered))
    else:
        out.print("No model is registered yet.")


def _datasets(workspace: Workspace, params: Params) -> dict[str, dict[str, Any]]:
    versions = {name: versioning.version(workspace, name) for name in params.datasets}
    ingested = [name for name, version in versions.items() if version]
    stale = Counter(versioning.dataset_of(stage) for stage in versioning.stale(workspace, ingested))
    return {
        name: {
            "source": params.dataset(name).source,
            "version": version,
            **counts(workspace, name),
            "due": _due(workspace, params, name, version, stale[name]),
        }
        for name, version in versions.items()
    }


def counts(workspace: Workspace, name: str) -> dict[str, int]:
    """Numbers of exams, of known patients, and of lines of the quarantine list."""
    file = workspace.manifest(name)
    if not file.is_file():
        return {"exams": 0, "patients": 0, "quarantined": 0}
    patients = manifest.read_patients(file)
    return {
        "exams": len(patients),
        "patients": len(set(patients) - {UNKNOWN}),
        "quarantined": len(quarantine.read(workspace.quarantine(name))),
    }


def _due(
    workspace: Workspace, params: Params, name: str, version: str | None, stale: int
) -> str | None:
    if version is None:
        return None
    if not source_unchanged(workspace, name, params.dataset(name)):
        return "its source has changed; keyslice ingest or retrain takes the news in"
    if stale:
        return f"{stale} stages are out of date; keyslice retrain {name} runs them"
    return None


def _dataset_table(datasets: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("dataset", style="bold")
    table.add_column("source")
    table.add_column("version")
    for name in ("exams", "patients", "quarantined"):
        table.add_column(name, justify="right")
    for name, facts in datasets.items():
        if facts["version"] is None:
            table.add_row(name, facts["source"], "[dim]not ingested[/dim]", "", "", "")
            continue
        patients = str(facts["patients"] or "unknown")
        counts = (str(facts["exams"]), patients, str(facts["quarantined"] or ""))
        table.add_row(name, facts["source"], facts["version"][:12], *counts)
    return table


def _model_table(registered: list[Model]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "version", "alias", "variant", "seed", "val. AUC", "registered (UTC)"):
        table.add_column(name, style="bold" if name == "model" else None)
    for model in registered:
        table.add_row(
            model.name,
            str(model.version),
            " ".join(f"@{alias}" for alias in model.aliases),
            model.variant,
            str(model.seed),
            f"{model.auc:.3f}",
            f"{model.created:%Y-%m-%d %H:%M}",
        )
    return table


def _model(model: Model) -> dict[str, Any]:
    return vars(model) | {"created": model.created.isoformat()}

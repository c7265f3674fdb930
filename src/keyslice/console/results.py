"""What a retraining or a registration ended with: on the terminal, or as JSON."""

import json
from typing import Any

import pandas as pd

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import out, say
from keyslice.console.overview import counts
from keyslice.evaluation.presentation import gains, terminal
from keyslice.provenance import ledger, standing


def show_comparison(workspace: Workspace, params: Params, dataset: str) -> None:
    """The table of a dataset's variants, the candidate, and where the report lies."""
    folder = workspace.comparison(dataset)
    table = pd.read_csv(folder / "comparison.csv")
    candidate = json.loads((folder / "candidate.json").read_text(encoding="utf-8"))
    reference = next(iter(params.compare_settings(dataset).references), None)
    out.print(terminal(table, reference, candidate["variant"]))
    if (more := gains(table)) is not None:
        out.print()
        out.print(more)
        out.print()
    out.print(
        f"candidate [bold]{candidate['variant']}[/bold], seed {candidate['seed']}: "
        f"{candidate['reason']}"
    )
    if candidate["warning"]:
        out.print(f"[yellow]warning[/yellow]: {candidate['warning']}")
    out.print(f"report {folder.relative_to(workspace.root) / 'report.html'}")


def show_exams(workspace: Workspace, dataset: str) -> None:
    """How many exams the dataset has, and how many files were refused."""
    found = counts(workspace, dataset)
    place = workspace.quarantine(dataset).relative_to(workspace.root)
    refused = f", [yellow]{found['quarantined']} quarantined[/yellow], the reasons in {place}"
    say(out, f"{found['exams']} exams{refused if found['quarantined'] else ''}")


def entry(
    workspace: Workspace, dataset: str, model_version: int | None, run_id: str | None
) -> dict[str, Any]:
    """A dataset's part of the JSON.

    Args:
        workspace: that holds it.
        dataset: its name.
        model_version: as which its results are registered.
        run_id: of the retraining in MLflow; None where none was needed.
    """
    found = counts(workspace, dataset)
    gate = model_version and standing.gate(ledger.read(workspace), dataset, model_version)
    return {
        "dataset_version": versioning.prepared_version(workspace, dataset),
        "run_id": run_id,
        "model_version": model_version,
        "gate": gate.payload["outcome"] if gate else None,
        "exams": found["exams"],
        "quarantined": found["quarantined"],
    }

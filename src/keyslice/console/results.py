"""A finished comparison on the terminal."""

import json

import pandas as pd

from keyslice.config import Params, Workspace
from keyslice.console.output import out
from keyslice.evaluation.presentation import terminal


def show_comparison(workspace: Workspace, params: Params, dataset: str) -> None:
    """The table of a dataset's variants, the candidate, and where the report lies."""
    folder = workspace.comparison(dataset)
    table = pd.read_csv(folder / "comparison.csv")
    candidate = json.loads((folder / "candidate.json").read_text(encoding="utf-8"))
    reference = next(iter(params.compare_settings(dataset).references), None)
    out.print(terminal(table, reference, candidate["variant"]))
    out.print(
        f"candidate [bold]{candidate['variant']}[/bold], seed {candidate['seed']}: "
        f"{candidate['reason']}"
    )
    out.print(f"report {folder.relative_to(workspace.root) / 'report.html'}")

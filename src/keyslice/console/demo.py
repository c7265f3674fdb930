"""`keyslice demo`: the whole chain on phantoms, and what to type next."""

from rich.markup import escape

from keyslice.config import Params, Workspace
from keyslice.console import retraining
from keyslice.console.output import out

DATASET = "phantom_volumes"
STARTS = {
    "none": "random values, and no weights are fetched",
    "imagenet": "ImageNet weights, fetched where KEYSLICE_WEIGHTS names no folder of them",
}


def run(workspace: Workspace, params: Params) -> None:
    """Retrain on phantoms; a second run finds nothing to do."""
    out.print(
        "Synthetic volumes with a lesion in a few slices are written into the inbox and go the way "
        "of real exams: ingested, prepared, each sampler trained and evaluated, the candidate "
        f"registered. The networks start from {start(params)}.\n"
    )
    retraining.run(workspace, params, (DATASET,))
    show_next(workspace)


def start(params: Params) -> str:
    """What the networks' weights are at first, by the settings."""
    weights = {params.stage(DATASET, name).backbone.weights for name in params.variants}
    return "; or ".join(STARTS.get(kind, f"the weights in {kind}") for kind in sorted(weights))


def show_next(workspace: Workspace) -> None:
    """Commands to type after the demo, each with what it is good for."""
    # Its owner may have emptied the inbox: the exams are in the dataset.
    exam = min(workspace.inbox(DATASET).rglob("*.nii*"), default=None)
    report = workspace.comparison(DATASET).relative_to(workspace.root) / "report.html"
    lines: dict[str, str] = {}
    if exam is not None:
        command = f"keyslice predict --model {DATASET} {exam.relative_to(workspace.root)}"
        lines[command] = "one exam, and the slices it took"
    lines |= {
        "keyslice status": "datasets, what runs, models",
        f"keyslice approve {DATASET} 1 --reason demo": "the candidate as champion",
        f"keyslice audit {DATASET}": "one page for an auditor",
        "MLFLOW_DISABLE_TELEMETRY=true \\\n    mlflow server --backend-store-uri "
        "sqlite:///state/mlflow.db": "runs and curves",
        "dvc dag": "the stage graph",
        "keyslice retrain vessel": "real data, from MedMNIST",
    }
    out.print("\n[bold]Next[/bold] (after [bold]. .venv/bin/activate[/bold])")
    for command, purpose in lines.items():
        out.print(f"  [dim]# {purpose}[/dim]\n  {escape(command)}", soft_wrap=True)
    out.print(f"In a browser, with plots:\n  {report}", soft_wrap=True)

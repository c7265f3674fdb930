"""`keyslice predict`: probabilities of exam files, and the slices that were looked at."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json
from keyslice.errors import UserError
from keyslice.registry.models import download, models


def run(
    workspace: Workspace,
    params: Params,
    files: Sequence[Path],
    *,
    name: str | None,
    version: str,
    as_json: bool,
) -> None:
    """Predict `files` with a version (a number or @alias) of the registered model `name`."""
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise UserError("no such file", where=missing[0], remedy="mend the path")
    name = name or _only_model(workspace)
    with err.status("loading the model"):
        package = download(workspace, name, version)
        from keyslice.models.predictor import Predictor  # torch and timm: seconds

        predictor = Predictor.load(package)
    predictions = predictor.predict_files(files)
    if as_json:
        named = zip(files, predictions, strict=True)
        print_json([{"file": str(file)} | found.as_dict() for file, found in named])
        return
    table = Table(title=f"{name} {version}", title_justify="left", box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    for label in predictor.settings.classes:
        table.add_column(label, justify="right")
    table.add_column("kept slices", overflow="fold")
    for file, found in zip(files, predictions, strict=True):
        shown = [
            f"[bold]{value:.3f}[/bold]" if label == found.label else f"{value:.3f}"
            for label, value in found.probabilities.items()
        ]
        table.add_row(file.name, *shown, ranges(found.kept))
    out.print(table)


def ranges(numbers: Sequence[int]) -> str:
    """`0-3 7 9-10` for 0, 1, 2, 3, 7, 9, 10; a number that occurs twice is shown once."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _only_model(workspace: Workspace) -> str:
    names = sorted({model.name for model in models(workspace)})
    if len(names) == 1:
        return names[0]
    if not names:
        raise UserError("no model is registered yet", remedy="keyslice retrain DATASET")
    raise UserError("several models are registered", rule="name one", remedy=f"--model {names[0]}")

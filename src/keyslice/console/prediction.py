"""`keyslice predict`: probabilities of exam files, and the slices that were looked at."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from keyslice.config import TestTime, Workspace
from keyslice.console.output import bar, err, out, print_json, say
from keyslice.errors import UserError
from keyslice.exams.source import printable
from keyslice.registry.models import download, in_use, models

if TYPE_CHECKING:
    from keyslice.models.predictor import Prediction  # imports torch


def run(
    workspace: Workspace,
    files: Sequence[Path],
    *,
    name: str | None,
    version: str | None,
    as_json: bool,
) -> None:
    """Predict `files` with a version (a number or @alias) of the registered model `name`.

    A file at fault is a line of its own and, at the end, exit code 2; the others are shown.
    """
    name = name or _only_model(workspace)
    with err.status("loading the model"):
        version = version or in_use(workspace, name)
        package = download(workspace, name, version)
        from keyslice.models.predictor import Predictor  # torch and timm: seconds

        predictor = Predictor.load(package)
    with bar() as progress:
        names = [printable(str(file)) for file in files]
        each = progress.track(predictor.predict_each(files), len(files), description="predicting")
        found = list(zip(names, each, strict=True))
    often = predictor.settings.evaluate.test_time
    faults = [one for _, one in found if isinstance(one, UserError)]
    if as_json:
        print_json([{"file": file} | _as_dict(one, often) for file, one in found])
    elif predicted := [(file, one) for file, one in found if not isinstance(one, UserError)]:
        folder = _common_folder([file for file, _ in predicted])
        shown = [(file.removeprefix(folder), one) for file, one in predicted]
        title = f"{name} {version}" + (f", files in {folder}" if folder else "")
        out.print(table(title, predictor.settings.classes, shown, predictor.thresholds))
        out.print("slices are numbered from 0, in the order in which the file has them")
        if often.active:
            out.print(Text(f"looked at each exam {often.words}"))
        if predictor.thresholds:
            least = ", ".join(f"{name} {t:.3f}" for name, t in predictor.thresholds.items())
            out.print(Text(f"thresholds, chosen on validation exams: {least}"))
    for fault in faults:
        say(err, Text(f"error: {fault}"))
    if faults:
        sys.exit(2)


def _common_folder(names: Sequence[str]) -> str:
    """The folder, with its last slash, that all lie in; empty where there is none."""
    try:
        folder = os.path.commonpath([Path(name).parent for name in names])
    except ValueError:  # absolute ones beside relative ones
        return ""
    return "" if folder == "." else f"{folder.rstrip('/')}/"


def _as_dict(one: "Prediction | UserError", often: TestTime) -> dict[str, Any]:
    """`looked`: at which states and from which views, in words."""
    if isinstance(one, UserError):
        return {"error": str(one)}
    return one.as_dict() | {"looked": often.words}


def table(
    title: str,
    classes: Sequence[str],
    found: "Sequence[tuple[str, Prediction]]",
    thresholds: Mapping[str, float],
) -> Table:
    """A line for each file: name, probabilities, classes above threshold, kept slices."""
    # Text: a name in brackets is no markup.
    shown = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    shown.add_column("file", overflow="fold")
    for label in classes:
        shown.add_column(Text(label), justify="right")
    if thresholds:
        shown.add_column("above threshold")
    shown.add_column("kept slices", overflow="fold")
    for file, one in found:
        values = [
            Text(f"{value:.3f}", style="bold" if label == one.label else "")
            for label, value in one.probabilities.items()
        ]
        if thresholds:
            values.append(Text(", ".join(one.above_threshold) or "none"))
        shown.add_row(Text(file), *values, " ".join(filter(None, (one.plane, ranges(one.kept)))))
    return shown


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
    raise UserError(
        f"several models are registered: {', '.join(names)}",
        rule="one predicts",
        remedy=f"name it, as in --model {names[0]}",
    )

"""The audit's figures as <svg>, in the page's own colours; none shows a pixel of an exam."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from keyslice.audit.evaluation import test_predictions
from keyslice.audit.flow import diagram
from keyslice.audit.subject import Subject
from keyslice.audit.training import CURVES
from keyslice.evaluation import palette, plots
from keyslice.evaluation.runs import Run

_LOOK = palette.Look("#0072b2", "o")


def figures(one: Subject, content: Mapping[str, Any]) -> dict[str, Markup]:
    """By name: flow, curves, calibration, confusion; left out is what there is nothing of."""
    drawn: dict[str, Markup] = {}
    if content["data"]["counts"] is not None:
        drawn["flow"] = diagram(content["data"])
    if curves := content["training"]["curves"]:
        runs = {int(seed): _run(curve) for seed, curve in curves.items()}
        drawn["curves"] = _inline(plots.training(runs, _LOOK), "training curves, by epoch")
    if (found := test_predictions(one)) is not None:
        bins = one.settings.evaluate.calibration_bins
        classes = tuple(one.told["classes"])
        calibration = plots.reliability(found, bins, _LOOK)
        drawn["calibration"] = _inline(calibration, "accuracy by confidence, on test exams")
        confusion = plots.confusions(found, classes, _LOOK)
        drawn["confusion"] = _inline(confusion, "share of each true class given to each class")
    return drawn


def _run(curve: Mapping[str, Any]) -> Run:
    columns = {name: pd.Series(curve[name], dtype=float) for name in CURVES if name in curve}
    best = -1 if curve["best"] is None else curve["best"]
    return Run(pd.DataFrame({"epoch": curve["epoch"]} | columns), best, ())


def _inline(figure: Figure, name: str) -> Markup:
    text = palette.svg(figure)
    for colour, variable in ((palette.INK, "--ink"), (palette.FAINT, "--rule")):
        text = text.replace(colour, f"var({variable})")
    named = f'<svg role="img" aria-label="{name}"'
    return Markup(text.replace("<svg", named, 1))  # noqa: S704  made here; matplotlib escapes

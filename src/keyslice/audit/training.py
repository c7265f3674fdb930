"""How the version was trained: settings, seeds, start, curves, warnings."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from keyslice.audit.subject import Subject
from keyslice.config import TestTime
from keyslice.evaluation import runs
from keyslice.provenance import descent, standing, withdrawn
from keyslice.registry.client import connect, exists

SHOWN = ("prepare", "backbone", "model", "train", "evaluate")
"""Sections of the settings that the page lists; the sampler's own come before."""
CURVES = ("train_loss", "validation_loss", "validation_auc")
"""Columns of history.csv, and metrics of a run in MLflow."""


def training(one: Subject) -> dict[str, Any]:
    """Of the version, for JSON; `initial` is None of one from before there was a choice.

    Curves and warnings come from data/models while that is this version's. Once a later retraining
    has taken its place, the curves of the version's own seed are asked of MLflow, which has no
    warnings and not the epoch that was kept.
    """
    told = one.told["settings"]
    package = one.package
    curves, warnings, source = _trained_here(one)
    if curves is None:
        curves = _in_mlflow(one)
        source = "MLflow" if curves else None
    return {
        "settings": {"sampler": told["sampler_settings"]} | _sections(told),
        "seed": one.told["seed"],
        "seeds": list(one.settings.train.seeds),
        "started_from": package["training"]["started_from"] if package else None,
        "initial": one.told.get("started_from"),
        "line": _line(one),
        "curves": curves,
        "curves_from": source,
        "warnings": warnings,
    }


def _sections(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """As `SHOWN`; how often the version looks at an exam for itself, where it is not once."""
    sections = {name: {**told[name]} for name in SHOWN}
    looks = {**sections["evaluate"].pop("test_time", {})}
    looks.pop("variants", None)  # of others; its own are among these already
    if TestTime.model_validate(looks).active:
        sections["test_time"] = looks
    return sections


def _line(one: Subject) -> list[dict[str, Any]]:
    """The version whose network the training started from, the one that this had started from, …

    It has learned from what they learned from.
    """
    numbers = descent.ancestors(one.events, one.model, one.version)
    told = [standing.registered(one.events, one.model, number) for number in numbers]
    return [
        {
            "version": event.payload["version"],
            "event": event.number,
            "dataset_version": event.payload["dataset_version"],
            "weights": event.payload["weights"],
            "withdrawn_exams": withdrawn.exams_withdrawn(
                one.events, one.model, event.payload["dataset_version"]
            ),
        }
        for event in told
        if event is not None
    ]


Curves = dict[str, dict[str, Any]]
"""By seed: epoch, CURVES (None where a value is missing), and best, the epoch that was kept."""


def _trained_here(one: Subject) -> tuple[Curves | None, list[dict[str, Any]] | None, str | None]:
    if not one.is_here("train"):
        return None, None, None
    folder = one.workspace.models(one.model, one.told["variant"])
    try:
        found = runs.read(folder, one.settings.train.seeds)
    except (OSError, ValueError, KeyError):  # taken away, or not as the stage left it
        return None, None, None
    curves = {str(seed): _curve(run.history, run.best_epoch) for seed, run in found.items()}
    warnings = [{"seed": s, "text": text} for s, run in found.items() for text in run.warnings]
    return curves, warnings, "data/models"


def _in_mlflow(one: Subject) -> Curves | None:
    run = one.told["training_run"]
    if not (run and exists(one.workspace)):
        return None
    client = connect(one.workspace)
    try:
        columns = {
            name: {m.step: m.value for m in client.get_metric_history(run, name)}
            for name in ("epoch", *CURVES)
        }
    except Exception:  # MLflow's, which the registry alone imports: the run was deleted there
        return None
    steps = sorted(columns["epoch"])
    rows = {name: [values.get(step) for step in steps] for name, values in columns.items()}
    return {str(one.told["seed"]): _curve(pd.DataFrame(rows), None)} if steps else None


def _curve(history: pd.DataFrame, best: int | None) -> dict[str, Any]:
    rows = {name: _plain(history[name]) for name in CURVES if name in history}
    return {"epoch": [int(epoch) for epoch in history["epoch"]], **rows, "best": best}


def _plain(values: Iterable[float]) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in values]

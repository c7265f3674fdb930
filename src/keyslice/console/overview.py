"""`keyslice status`: datasets and versions, what is due, what runs, retrainings, models.

What one part needs and cannot have (DVC, MLflow) hides no other part: it is told at the end.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from rich.table import Table
from rich.text import Text

from flows import attempts, due
from keyslice import versioning
from keyslice.config import Params, Workspace, load
from keyslice.console import service
from keyslice.console.output import end_with, err, out, print_json, say
from keyslice.console.promotion import follows
from keyslice.errors import RunError, UserError
from keyslice.exams import manifest_columns, quarantine
from keyslice.exams.source import UNKNOWN
from keyslice.provenance import ledger, naming, standing
from keyslice.registry.champion import words
from keyslice.registry.drift import kept
from keyslice.registry.models import Model, models
from keyslice.registry.owner import CHAMPION
from keyslice.registry.retrainings import Retraining, last_retrainings
from keyslice.stages.running import UnderWay, retraining_of, under_way

TIME = "%Y-%m-%d %H:%M"

T = TypeVar("T")


class _Parts:
    """Asks for the parts; `problems` keeps what kept one from being told."""

    def __init__(self) -> None:
        self.problems: list[UserError | RunError] = []

    def ask(self, part: Callable[[], T]) -> T | None:
        try:
            return part()
        except (UserError, RunError) as error:
            if str(error) not in map(str, self.problems):
                self.problems.append(error)
            return None


def run(workspace: Workspace, *, as_json: bool) -> None:
    """Print what there is, what runs and what is due.

    While params.yaml breaks a rule, of the datasets that the service has run for.

    Raises:
        UserError, RunError: a part could not be shown; the others have been, and of several the
            others have been told.
    """
    parts = _Parts()
    with err.status("looking"):
        running = under_way(workspace)
        params = parts.ask(lambda: load(workspace.params))
        names = attempts.known(workspace) if params is None else list(params.datasets)
        busy = {name for name in names if retraining_of(name) in {r.name for r in running}}
        datasets = {name: _dataset(workspace, name, parts) for name in names}
        if params is not None:
            for name, reason in _due(workspace, params, busy, parts).items():
                datasets[name] |= {"source": params.dataset(name).source, "due": reason}
        last = parts.ask(lambda: last_retrainings(workspace, names))
        # Not asked again: an MLflow that does not answer takes its time.
        registered = None if last is None else parts.ask(lambda: models(workspace))
    for name, one in (last or {}).items():
        datasets[name]["last_retraining"] = _retraining(one, name in busy)
    waiting = parts.ask(lambda: [*_moved(workspace, registered or []), *_waiting(workspace)]) or []
    served = service.facts(workspace, params)
    if as_json:
        shown = None if registered is None else [_model(model) for model in registered]
        running_now = [_run(r) for r in running]
        told = {"datasets": datasets, "running": running_now, "models": shown, "waiting": waiting}
        told["service"] = served
        print_json(told)
    else:
        _show(datasets, running, registered, waiting)
        say(out, Text(service.words(served)))
    end_with(parts.problems)


def _show(
    datasets: dict[str, dict[str, Any]],
    running: list[UnderWay],
    registered: list[Model] | None,
    waiting: list[str],
) -> None:
    if datasets:
        out.print(_dataset_table(datasets))
    for name, facts in datasets.items():
        if facts["due"]:
            helps = facts["due"] not in (due.SOURCE_UNSEEN, _UNTOLD)
            way_out = f"; keyslice retrain {name}" if helps else ""
            say(out, f"[yellow]{name}[/yellow]: {facts['due']}{way_out}")
        if facts["last_attempt"]:
            say(out, Text(f"{name}: last attempt: {facts['last_attempt']}"))
        if facts["drift"] and facts["drift"]["shifted"]:
            names = ", ".join(facts["drift"]["shifted"])
            told = f"drift of {names}; keyslice drift {name}"
            say(out, f"[yellow]{name}[/yellow]: {told}")
    if any(facts["last_retraining"] for facts in datasets.values()):
        out.print()
        out.print(_retraining_table(datasets))
    if running:
        out.print()
        out.print(_running_table(running))
    out.print()
    if registered:
        out.print(_model_table(registered))
        for line in waiting:
            say(out, Text(line, "yellow"))
    elif registered is not None:
        out.print("No model is registered yet.")


def _due(
    workspace: Workspace, params: Params, busy: set[str], parts: _Parts
) -> dict[str, str | None]:
    """Why the next run of each dataset would do work, in its words.

    None: it would not, or is being done, or the dataset is not ingested.
    """
    idle = [d for d in params.datasets if d not in busy and versioning.version(workspace, d)]
    stale = parts.ask(lambda: versioning.stale(workspace, idle))
    reasons = {name: parts.ask(partial(_reason, workspace, params, name, stale)) for name in idle}
    return dict.fromkeys(params.datasets) | reasons


def _dataset(workspace: Workspace, name: str, parts: _Parts) -> dict[str, Any]:
    """What can be told of it without its settings."""
    version = versioning.version(workspace, name)
    counted = parts.ask(lambda: counts(workspace, name))
    return {
        "source": None,
        "version": version,
        **(counted or dict.fromkeys(("exams", "patients", "quarantined"))),
        "due": None,
        "drift": version and _drift(workspace, name, version),
        "last_retraining": None,
        "last_attempt": None if (last := attempts.last(workspace, name)) is None else last.words,
    }


def counts(workspace: Workspace, name: str) -> dict[str, int]:
    """Numbers of exams, of known patients, and of lines of the quarantine list."""
    file = workspace.manifest(name)
    if not file.is_file():
        return {"exams": 0, "patients": 0, "quarantined": 0}
    patients = manifest_columns.read_patients(file)
    return {
        "exams": len(patients),
        "patients": len(set(patients) - {UNKNOWN}),
        "quarantined": len(quarantine.read(workspace.quarantine(name))),
    }


def _drift(workspace: Workspace, name: str, version: str) -> dict[str, Any] | None:
    """What the last retraining found of this version; the rest lies in state/drift."""
    told = kept(workspace, name, version)
    return told and {key: told[key] for key in ("sentence", "shifted", "reference")}


def _reason(workspace: Workspace, params: Params, name: str, stale: list[str] | None) -> str | None:
    reason, least = due.source(workspace, params, name), params.retrain_settings(name)
    if reason == due.SOURCE_CHANGED and least.minimum_new_exams > 1:
        waits = f"the service waits for {least.minimum_new_exams} new exams"
        return f"{reason}; {waits} (keyslice inbox {name} counts them)"
    if reason:
        return reason
    if stale is None:
        return _UNTOLD
    return due.beyond_source(workspace, params, name, stale) or None


_UNTOLD = "what is out of date cannot be told now"


def _moved(workspace: Workspace, registered: list[Model]) -> list[str]:
    """Of each model whose champion in MLflow is not the ledger's."""
    found = ledger.read(workspace)
    lines = []
    for model in naming.models(found):
        here = next(
            (m.version for m in registered if m.name == model and CHAMPION in m.aliases), None
        )
        told = standing.champion(found, model)
        if registered and here != told and standing.unfinished(found, model) is None:
            lines.append(
                f"{model}: in MLflow @{CHAMPION} is on {words(here)}, by the ledger on "
                f"{words(told)}; keyslice champion {model} --restore REASON puts it back"
            )
    return lines


def _waiting(workspace: Workspace) -> list[str]:
    """Of each model whose challenger nobody has decided on: how its gate went."""
    found = ledger.read(workspace)
    lines = []
    for model in naming.models(found):
        version = standing.challenger(found, model)
        if version is None or version == standing.champion(found, model):
            continue
        gate, decision = (ask(found, model, version) for ask in (standing.gate, standing.decision))
        if gate is None:
            told = f"has not been through the gate; keyslice gate {model}"
        elif decision is not None and decision.number > gate.number:
            continue
        else:
            told = follows(gate)
        lines.append(f"{model} version {version}: {told}")
    return lines


def _dataset_table(datasets: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("dataset", style="bold")
    table.add_column("source")
    table.add_column("version")
    for name in ("exams", "patients", "quarantined"):
        table.add_column(name, justify="right")
    for name, facts in datasets.items():
        source = facts["source"] or "?"
        if facts["version"] is None:
            table.add_row(name, source, "[dim]not ingested[/dim]", "", "", "")
            continue
        if facts["exams"] is None:  # what is in the way is told at the end
            table.add_row(name, source, facts["version"][:12], "?", "?", "?")
            continue
        patients = str(facts["patients"] or "unknown")
        counts = (str(facts["exams"]), patients, str(facts["quarantined"] or ""))
        table.add_row(name, source, facts["version"][:12], *counts)
    return table


def _retraining_table(datasets: dict[str, dict[str, Any]]) -> Table:
    table = _table("last retraining", "begun (UTC)", "state", "ended (UTC)")
    for name, facts in datasets.items():
        last = facts["last_retraining"]
        if last:
            begun, ended = (_minute(last[key]) for key in ("begun", "ended"))
            table.add_row(name, begun, last["state"], ended)
    return table


def _running_table(running: list[UnderWay]) -> Table:
    table = _table("runs now", "since (UTC)", "by")
    for one in running:
        table.add_row(one.name, f"{one.since:%H:%M}", Text(one.holder, overflow="fold"))
    return table


def _model_table(registered: list[Model]) -> Table:
    table = _table("model", "version", "alias", "variant", "seed", "val. AUC", "registered (UTC)")
    for model in registered:
        table.add_row(
            model.name,
            str(model.version),
            " ".join(f"@{alias}" for alias in model.aliases),
            model.variant,
            str(model.seed),
            "" if math.isnan(model.auc) else f"{model.auc:.3f}",
            f"{model.created:{TIME}}",
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, style=None if number else "bold")
    return table


def _retraining(last: Retraining, busy: bool) -> dict[str, Any]:
    # One that nobody carries on was cut off; the next retraining says so to MLflow.
    state = "cut off" if last.state == "running" and not busy else last.state
    times = {"begun": last.begun.isoformat(), "ended": last.ended and last.ended.isoformat()}
    return {"run_id": last.run_id, "version": last.version, "state": state} | times


def _run(one: UnderWay) -> dict[str, Any]:
    return {"name": one.name, "since": one.since.isoformat(), "by": one.holder}


def _model(model: Model) -> dict[str, Any]:
    """JSON knows no NaN."""
    auc = None if math.isnan(model.auc) else model.auc
    return vars(model) | {"created": model.created.isoformat(), "auc": auc}


def _minute(moment: str | None) -> str:
    """Of an ISO time; empty where there is none."""
    return moment[:16].replace("T", " ") if moment else ""

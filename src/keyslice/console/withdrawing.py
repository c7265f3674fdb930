"""`keyslice withdraw`: what would be touched, the question, and what is left to do by hand."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.prompt import Confirm
from rich.text import Text

from keyslice.config import FolderDataset, Params, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.errors import UserError
from keyslice.provenance import patients, withdrawal
from keyslice.provenance.traces import Part, Plan
from keyslice.provenance.withdrawal import Done
from keyslice.registry.settling import mark

SHOWN = 10
"""Files at most; the others are counted."""
KINDS = {
    "exam": "exams",
    "manifest": "manifests",
    "index": "tables of prepared frames",
    "record": "tables of prepared frames",
    "shard": "shards",
    "predictions": "predictions",
    "table": "tables",
    "report": "reports and their figures",
}


def run(
    workspace: Workspace,
    params: Params,
    *,
    reason: str,
    patient: str | None,
    known_as: str | None,
    issuer: str | None,
    dataset: str | None,
    bar_unknown: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show what a withdrawal touches, ask, and carry it out.

    Args:
        workspace: that the patient withdraws from.
        params: its settings.
        reason: for the ledger.
        patient: the real id.
        known_as: the pseudonym; either this or `patient`.
        issuer: who gave out the id, where it is not the dataset's own.
        dataset: only this one.
        bar_unknown: bar also a patient of whom nothing has come yet.
        yes: do not ask.
        dry_run: only show.
        as_json: print JSON.

    Raises:
        UserError: a patient nobody knows; no --yes where nobody can be asked; the reason names the
            patient; or see `withdrawal.withdraw`.
    """
    _check_reason(reason, patient, known_as)
    person = patients.person(
        workspace, params, patient=patient, known_as=known_as, issuer=issuer, dataset=dataset
    )
    who = person.patients
    taken_up = [] if dry_run else _resumed(workspace)
    if taken_up:
        mark(workspace)
    done = next((d for d in taken_up if who.items() & d.patients.items()), None)
    found = withdrawal.plan(workspace, who, reason, only=dataset, also=person.also(who))
    if done is None or not found.empty:
        done = None
        past = {n: one for n, one in who.items() if withdrawal.is_barred(workspace, {n: one})}
        # Another source's ids are other patients: it need not bar one that it never had.
        who = {part.dataset: part.patient for part in found.parts if _concerns(params, part)} or who
        if found.empty and past and (not bar_unknown or who.items() <= past.items()):
            _tell_again(workspace, params, past, as_json)
            return
        if found.empty and not bar_unknown:
            raise _nobody()
        if dry_run or not as_json:
            _show(found, params, dry_run, as_json)
        if dry_run:
            return
        _ask(yes)
        with err.status("erasing"):
            also = person.also(who)
            done = withdrawal.withdraw(workspace, who, reason, only=dataset, also=also)
            mark(workspace)
    if as_json:
        print_json(_told(done.plan) | {"dry_run": False} | _after(workspace, params, done))
    else:
        _report(workspace, params, done)


def _check_reason(reason: str, *ids: str | None) -> None:
    """Raises UserError: it is empty, or says who; the ledger keeps it for good."""
    if not reason.strip():
        raise UserError("is empty", where="--reason", rule="the ledger keeps why")
    if any(one and one.lower() in reason.lower() for one in ids):
        raise UserError(
            "names the patient",
            where="--reason",
            rule="the ledger keeps it for good, and must not say who",
            remedy="say why, as in: consent withdrawn, form of 2026-05-01",
        )


def _concerns(params: Params, part: Part) -> bool:
    return bool(part.exams) or isinstance(params.datasets.get(part.dataset), FolderDataset)


def _resumed(workspace: Workspace) -> list[Done]:
    done = withdrawal.resume(workspace)
    for one in done:
        names = ", ".join(part.dataset for part in one.plan.parts)
        say(err, f"completed a withdrawal of {names} that had been cut off")
    return done


def _nobody() -> UserError:
    return UserError(
        "no dataset here ever held an exam of this patient",
        rule="a patient is found by the id as the table of labels has it, and its issuer",
        remedy="check the id and --issuer; --bar-unknown bars the patient from all that comes",
    )


def _ask(yes: bool) -> None:
    """Raises UserError: nobody can be asked, or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(
            "nothing was changed",
            rule="what is erased does not come back",
            remedy="look at --dry-run, then add --yes",
        )
    if not Confirm.ask("Erase it? It does not come back.", console=err, default=False):
        raise UserError("nothing was changed, as you answered")


def _show(found: Plan, params: Params, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(_told(found) | {"dry_run": True})
        return
    for part in found.parts:
        if not _concerns(params, part):
            continue
        held = list(part.versions)
        told = f"{_count(len(part.exams), 'exam')} in {_count(len(held), 'dataset version')}"
        if held:
            told += f" ({', '.join(version[:12] for version in held[:SHOWN])}"
            told += f", … and {len(held) - SHOWN} more)" if len(held) > SHOWN else ")"
        say(out, Text.assemble((part.dataset, "bold"), f"  {told if part.exams else 'barred'}"))
        if part.models:
            say(out, f"  models made from those versions: {_models(part)}")
    kinds: dict[str, int] = {}
    for kind, count in found.counts().items():
        kinds[KINDS[kind]] = kinds.get(KINDS[kind], 0) + count
    if kinds:
        say(out, "erased: " + ", ".join(f"{words} {count}" for words, count in kinds.items()))
        places = ", ".join(f"{name} {count}" for name, count in found.places.items())
        say(out, f"objects of DVC's that change: {places}")
    if dry_run:
        say(out, "nothing was changed: --dry-run")


def _models(part: Part) -> str:
    names = [
        f"{part.dataset}/{model}" + (" (the champion)" if model == part.champion else "")
        for model in part.models
    ]
    return ", ".join(names)


def _report(workspace: Workspace, params: Params, done: Done) -> None:
    """What was done, and what is left for a person."""
    for part in done.plan.parts:
        version = done.versions[part.dataset]
        if not part.exams:
            say(out, f"{part.dataset}: barred; no exam of theirs is taken in")
            continue
        now = f"now version {version[:12]}" if part.present else "the version of now held none"
        say(out, f"{part.dataset}: {_count(len(part.exams), 'exam')} withdrawn, {now}")
        if part.models:
            say(out, f"  marked in MLflow: {_models(part)}")
        if part.champion is not None:
            say(out, f"  [bold]the champion was made from them: keyslice retrain {part.dataset}[/]")
        if part.present:
            pointer = workspace.pointer(part.dataset).relative_to(workspace.root)
            say(out, f"  commit {pointer}, and dvc push")
    who = {part.dataset: part.patient for part in done.plan.parts}
    _tell_originals(workspace, params, who)
    say(
        out,
        "not reached from here: backups, other clones and what they have in their caches, older "
        "versions that a bucket keeps, files exported by hand",
    )


def _tell_again(
    workspace: Workspace, params: Params, who: Mapping[str, str], as_json: bool
) -> None:
    if as_json:
        print_json({"datasets": [], "originals": _originals(workspace, params, who)})
        return
    say(out, "this patient has withdrawn already, and nothing of theirs was found")
    _tell_originals(workspace, params, who)


def _tell_originals(workspace: Workspace, params: Params, who: Mapping[str, str]) -> None:
    for name, lines in _originals(workspace, params, who).items():
        if lines is None:
            line = f"{name}: its source cannot be looked at now; originals there are not erased"
        elif lines:
            some = ", ".join(f"{one['file']} (line {one['line']})" for one in lines[:SHOWN])
            more = f", … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
            line = (
                f"{name}: the originals are yours to keep or to remove, with their lines of the "
                f"table; they are not taken in again: {some}{more}"
            )
        else:
            continue
        say(out, Text(line))


def _originals(
    workspace: Workspace, params: Params, who: Mapping[str, str]
) -> dict[str, list[dict[str, Any]] | None]:
    """By dataset, lines of the table of labels; None: they cannot be looked at."""
    found = {}
    for name, patient in who.items():
        lines = patients.originals(workspace, params, name, patient)
        found[name] = lines and [{"line": number, "file": file} for number, file in lines]
    return found


def _told(found: Plan) -> dict[str, Any]:
    return {
        "withdrawal": found.id,
        "datasets": [
            {
                "dataset": part.dataset,
                "exams": len(part.exams),
                "versions": part.versions,
                "models": [*part.models],
                "champion": part.champion,
            }
            for part in found.parts
        ],
        "objects": found.counts(),
        "places": found.places,
    }


def _after(workspace: Workspace, params: Params, done: Done) -> dict[str, Any]:
    who = {part.dataset: part.patient for part in done.plan.parts}
    return {"versions": done.versions, "originals": _originals(workspace, params, who)}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

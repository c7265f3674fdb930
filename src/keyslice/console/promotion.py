"""`keyslice gate`, `approve`, `reject`, `rollback`, `champion`, `plan`."""

from datetime import UTC, datetime, time
from typing import Any

from rich.table import Table
from rich.text import Text

from keyslice import initial, versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.errors import UserError
from keyslice.provenance import ledger, naming, standing
from keyslice.provenance.ledger import Event
from keyslice.stages.running import only_retraining

TIME = "%Y-%m-%d %H:%M"
_STYLES = {"holds": "green", "fails": "red", "cannot tell": "yellow"}


def plan(workspace: Workspace, params: Params, dataset: str, *, as_json: bool) -> None:
    """Fix in the ledger what candidates of a dataset will be judged by; lay down their start."""
    from keyslice.registry import chronicle

    params.dataset(dataset)
    started = _lay_down(workspace, params, dataset)
    event = chronicle.run_started(workspace, params, dataset, run="")
    if as_json:
        print_json({"event": event.number, **event.payload, "starts": started})
        return
    for variant, words in started.items():
        say(out, Text(f"{variant} starts {words}"))
    for key, value in event.payload["plan"].items():
        say(out, Text(f"{key}: {value}"))
    say(out, f"fixed in the ledger as event {event.number}; it counts for what is trained from now")


def _lay_down(workspace: Workspace, params: Params, dataset: str) -> dict[str, str]:
    """What each training that is due starts from, in words; empty where none has a choice."""
    if versioning.version(workspace, dataset) is None:
        return {}
    if not initial.concerns(workspace, params, dataset):
        return {}
    from keyslice.registry import starting

    with only_retraining(workspace, [dataset], "keyslice plan"):
        return starting.lay_down(workspace, params, dataset, versioning.stale(workspace, [dataset]))


def gate(
    workspace: Workspace, params: Params, model: str, version: int | None, *, as_json: bool
) -> bool:
    """Hold a version (default: the challenger) against the champion; whether it passed."""
    params.dataset(model)
    with err.status("running the gate"):
        from keyslice.registry import gate

        event = gate.run(workspace, params, model, version)
    if as_json:
        print_json({"event": event.number, **event.payload})
    else:
        show_gate(event)
    return event.payload["outcome"] == "passed"


def show_gate(event: Event) -> None:
    """The table of a gate's criteria, and what follows from it."""
    found = event.payload
    against = "no champion yet" if found["champion"] is None else f"version {found['champion']}"
    look = f", look {found['look']} of {found['looks']} at them" if found["look"] else ""
    say(
        out,
        f"[bold]{found['model']}[/bold] version {found['version']} against {against}, on "
        f"{found['test_exams']} test exams{look}",
    )
    table = Table(box=None, pad_edge=False)
    for name in ("criterion", "challenger", "reference", "difference", "margin", ""):
        right = name not in ("criterion", "")
        table.add_column(name, overflow="fold", justify="right" if right else "left")
    for one in found["criteria"]:
        name, *figures = one["cells"]
        style = "bold red" if one["blocks"] else _STYLES[one["outcome"]]
        outcome = Text("blocks" if one["blocks"] else one["outcome"], style)
        # The title says against whom.
        short = name.removesuffix(" against the champion")
        table.add_row(*map(Text, (short, *figures)), outcome)
    out.print(table)
    for one in found["criteria"]:
        if one["outcome"] != "holds":
            say(out, Text(f"{one['name']}: {one['words']}", "red" if one["blocks"] else ""))
    if found["power"] is not None:
        say(out, f"power: an equally good model passes with a probability of {found['power']:.0%}")
    for warning in found["warnings"]:
        say(out, Text(f"warning: {warning}", style="yellow"))
    say(out, Text(follows(event), "" if found["outcome"] == "passed" else "bold red"))


def follows(event: Event) -> str:
    """What a gate ended with, and what there is to do."""
    found = event.payload
    name, number = found["model"], found["version"]
    if found["outcome"] != "passed":
        blocking = ", ".join(one["name"] for one in found["criteria"] if one["blocks"])
        return f"the gate failed: {blocking}"
    if found["approval"] == "required":
        return f"passed the gate; keyslice approve {name} {number} --reason … makes it the champion"
    return "passed the gate"


def decide(
    workspace: Workspace,
    params: Params,
    model: str,
    version: int,
    verdict: Any,
    reason: str,
    *,
    override: bool = False,
    as_json: bool,
) -> None:
    """Approve or reject a version."""
    params.dataset(model)
    _worded(reason)
    with err.status("asking MLflow"):
        from keyslice.registry import approval

        moved = approval.decide(workspace, model, version, verdict, reason, override=override)
    decided = standing.decision(ledger.read(workspace), model, version)
    assert decided is not None
    if as_json:
        print_json({"event": decided.number, **decided.payload, "champion": _after(moved)})
        return
    signed = decided.payload["signature"]
    who = f", signed by {signed['principal'] or 'a key that no list names'}" if signed else ""
    say(out, f"{model} version {version} {verdict} by {decided.actor}{who}")
    if moved is not None:
        before = "none" if moved.before is None else f"version {moved.before}"
        say(out, f"@champion is version {moved.after}; before: {before}")


def rollback(
    workspace: Workspace, params: Params, model: str, to: int | None, reason: str, *, as_json: bool
) -> None:
    """Make an earlier champion the champion again."""
    params.dataset(model)
    _worded(reason)
    with err.status("asking MLflow"):
        from keyslice.registry.rollback import rollback

        moved = rollback(workspace, model, reason, to=to)
    if as_json:
        print_json({"event": moved.event.number, **moved.event.payload})
        return
    say(out, f"@champion of {model} is version {moved.after} again; before: {moved.before}")


def champion(
    workspace: Workspace, model: str, *, at: str | None, restore: str | None, as_json: bool
) -> None:
    """Print who is, or was, champion; or put MLflow's alias back to where the ledger says."""
    if restore is not None:
        _worded(restore)
        from keyslice.registry.rollback import restore as put_back

        moved = put_back(workspace, model, restore)
        say(
            out if not as_json else err,
            "@champion is where the ledger says"
            if moved is None
            else f"@champion of {model} is version {moved.after} again",
        )
    found = ledger.read(workspace)
    naming.check_model(found, model)
    past = standing.reigns(found, model)
    if at is not None:
        reign = standing.champion_at(found, model, _moment(at))
        past = [reign] if reign is not None else []
    if as_json:
        print_json([_reign(reign) for reign in past])
        return
    if not past:
        say(out, f"{model} had no champion{f' at {at}' if at else ' yet'}.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("champion", "from (UTC)", "until", "because", "by", "reason"):
        table.add_column(name, overflow="fold")
    for reign in past:
        moved = reign.moved
        until = f"{reign.until:{TIME}}" if reign.until else "now"
        version = "none" if reign.version is None else f"version {reign.version}"
        told = (moved.payload["because"], moved.actor, moved.payload["reason"])
        table.add_row(*map(Text, (version, f"{reign.since:{TIME}}", until, *told)))
    out.print(table)


def _reign(reign: standing.Reign) -> dict[str, Any]:
    return {
        "version": reign.version,
        "from": reign.since.isoformat(),
        "until": reign.until and reign.until.isoformat(),
        "because": reign.moved.payload["because"],
        "by": reign.moved.actor,
        "reason": reign.moved.payload["reason"],
        "event": reign.moved.number,
    }


def _moment(text: str) -> datetime:
    """The end of a day, or a moment; UTC where no zone is named.

    Raises:
        UserError: it is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{text!r} is no time",
            where="--at",
            rule="it is a day, 2026-05-01, or a moment, 2026-05-01T12:00+02:00",
        ) from None
    if len(text) <= len("2026-05-01"):
        found = datetime.combine(found.date(), time.max)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _worded(reason: str) -> None:
    if not reason.strip():
        raise UserError(
            "is empty", where="--reason", rule="who reads the ledger in years must understand it"
        )


def _after(moved: Any) -> int | None:
    return moved and moved.after

"""`keyslice ledger`: what happened, whether it can be trusted, and the same for other programs."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json, say, tell
from keyslice.errors import UserError, did_you_mean
from keyslice.provenance import chain, ledger, prov
from keyslice.provenance.chain import Checked
from keyslice.provenance.ledger import Event
from keyslice.registry import settling

TIME = "%Y-%m-%d %H:%M:%S"


def verify(workspace: Workspace, params: Params, *, as_json: bool) -> bool:
    """Print what a check of the ledger found; whether it is without fault."""
    with err.status("reading the ledger"):
        found = chain.check(workspace, params.ledger.remote)
    if as_json:
        print_json(asdict(found) | {"proves": found.proves, "intact": not found.faults})
        return not found.faults
    for line in told(found):
        say(out, line)
    return not found.faults


def told(found: Checked) -> Iterable[Text]:
    """What a check of the ledger found, line by line."""
    if found.faults:
        first = found.faults[0]
        yield Text(f"event {first.number} {first.what}", style="bold red")
        for other in found.faults[1:]:
            yield Text(f"event {other.number} {other.what}", style="red")
    yield Text(f"{found.events} events: {found.proves}")
    if found.torn:
        yield Text(
            f"a last line of {found.torn} bytes was cut off by a crash, or is being written; the "
            "next event puts it aside",
            style="yellow",
        )
    for remark in found.remarks:
        yield Text(remark, style="dim")


def sign(workspace: Workspace, params: Params, reason: str, *, as_json: bool) -> None:
    """Take over what nobody has signed, and say which events that were."""
    event = chain.take_over(workspace, reason)
    settling.push(workspace, params, tell)
    if as_json:
        print_json(None if event is None else dict(event.payload) | {"event": event.number})
    elif event is None:
        out.print("All events are signed, or as no signature can show.")
    else:
        first, last = event.payload["first"], event.payload["last"]
        say(out, f"events {first} to {last} are signed now; event {event.number} says so")


def show(workspace: Workspace, about: str | None, last: int, *, as_json: bool) -> None:
    """Print events, the newest last.

    Args:
        workspace: whose ledger.
        about: a model, a dataset, or a version of one; None: all.
        last: how many, at most.
        as_json: whole events.
    """
    known = ledger.read(workspace)
    found = [e for e in known if about is None or _is_about(e, about)][-last:]
    if known and not found:
        names = {event.object.partition("@")[0].partition("/")[0] for event in known}
        raise UserError(
            f"no event is about {about!r}",
            rule="an event is about a dataset, a model, or a version of either",
            remedy=did_you_mean(about or "", names),
        )
    if as_json:
        print_json([asdict(event) | {"time": event.time.isoformat()} for event in found])
        return
    if not found:
        out.print("No event.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("event", justify="right", style="bold")
    for name in ("time (UTC)", "by", "what", "about"):
        table.add_column(name, overflow="fold")
    for event in found:
        about_it = event.object.removesuffix(".dir")
        name, _, version = about_it.partition("@")
        shown = f"{name}@{version[:12]}" if version else name[:40]
        cells = (str(event.number), f"{event.time:{TIME}}", event.actor, event.action, shown)
        table.add_row(*map(Text, cells))
    out.print(table)


def export(workspace: Workspace, form: str, output: Path | None) -> None:
    """Write the ledger as a W3C PROV document, to a file or to standard output."""
    text = prov.write(prov.document(ledger.read(workspace)), form)
    if output is None:
        sys.stdout.write(text)
    else:
        files.write_text(output, text)
        say(err, f"wrote {output}")


def _is_about(event: Event, about: str) -> bool:
    return event.object == about or event.object.startswith((f"{about}/", f"{about}@"))

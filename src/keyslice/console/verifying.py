"""`keyslice verify`: is the model, and all it came from, still what the ledger says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console import named
from keyslice.console.output import bar, err, out, print_json, say
from keyslice.provenance.evidence import Item

_STYLES = {"sound": "green", "altered": "bold red", "missing": "red", "unseen": "yellow"}
SHOWN = 40
"""Files at fault that the terminal lists; JSON has them all."""


def run(workspace: Workspace, params: Params, text: str, *, as_json: bool) -> bool:
    """Print what each part of the provenance is like; whether all of it is sound."""
    model, version = named.version(workspace, text)
    found = looked_at(workspace, params, model, version)
    faulty = [item for item in found if item.state in ("altered", "missing")]
    if as_json:
        items = [asdict(item) for item in found]
        print_json({"model": model, "version": version, "sound": not faulty, "items": items})
        return not faulty
    out.print(f"[bold]{model}[/bold] version {version}")
    out.print(listed(found))
    counts = Counter(item.state for item in found)
    if faulty:
        say(out, Text(f"{len(faulty)} of {len(found)} are not as the ledger says", "bold red"))
    else:
        unseen = f"; {counts['unseen']} could not be looked at" if counts["unseen"] else ""
        say(out, f"everything is as the ledger says{unseen}")
    return not faulty


def looked_at(workspace: Workspace, params: Params, model: str, version: int) -> list[Item]:
    """What `registry.verification.verify` finds, with a bar that shows how far it is."""
    with err.status("asking MLflow"):
        from keyslice.registry.verification import verify
    from keyslice.versioning import objects

    with bar() as progress:
        task = progress.add_task("reading", total=None)

        def read(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"reading {what}", completed=done, total=total)

        return verify(workspace, params, model, version, objects.cache(workspace), read)


def listed(found: Sequence[Item]) -> Table:
    """One line for each claim, under its part; of many faults the first."""
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    parts = list(dict.fromkeys(item.part for item in found))
    faults = [item for item in found if item.state != "sound"]
    left_out = set(map(id, faults[SHOWN:]))
    before = ""
    for item in sorted(found, key=lambda item: parts.index(item.part)):
        if id(item) in left_out:
            continue
        if item.part != before:
            shown.add_row(Text(item.part, "bold"))
            before = item.part
        detail = (f"  {item.detail}", "dim") if item.detail else ""
        state = Text(f"  {item.state}", _STYLES[item.state])
        shown.add_row(state, Text.assemble(item.what, detail))
    if left_out:
        shown.add_row("", Text(f"and {len(left_out)} more", "red"))
    return shown

"""`keyslice quarantine`: what was refused and what to do about it; and another try."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console import ingestion
from keyslice.console.output import out, print_json, say
from keyslice.exams import quarantine
from keyslice.exams.lock import dataset_lock
from keyslice.exams.quarantine import Refusal

MEANING = {
    "unreadable": "No exam could be made of these files, and nothing of them was kept. Put better "
    "ones in their place: they are read at the next ingestion. If what hindered it lay elsewhere, "
    "such as permissions or limits: keyslice quarantine {name} --retry",
    "table": "A line of the table of labels says of them what cannot be. Mend it, then: keyslice "
    "ingest {name}",
    "two_patients": "The same pixels came under two patients: one of them is the wrong one, and a "
    "model could be tested on what it has learned from. Mend the table, then: keyslice quarantine "
    "{name} --decided FILE",
    "two_labels": "The same pixels came with two labels: one of them is the wrong one. Mend the "
    "table, then: keyslice quarantine {name} --decided FILE",
}
"""Of each kind of refusal, and the way out."""


def run(
    workspace: Workspace,
    params: Params,
    name: str,
    *,
    retry: bool,
    decided: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print the quarantine list of dataset `name`, or ingest again and say what came of it.

    Args:
        workspace: that holds the dataset.
        params: its settings.
        name: under `datasets`.
        retry: ingest again, and read again what could not be read.
        decided: ingest again, the conflicts about these files being settled.
        as_json: print JSON.

    Raises:
        UserError: the dataset is not configured, the list is damaged, or a file is not in it.
    """
    params.dataset(name)
    if retry or decided:
        with dataset_lock(workspace, name, "quarantine"):
            _settle(workspace.quarantine(name), decided)
            ingestion.run(workspace, params, name, retry=retry, as_json=as_json)
        return
    refusals = quarantine.read(workspace.quarantine(name))
    if as_json:
        print_json({"dataset": name, "quarantined": [asdict(refusal) for refusal in refusals]})
        return
    _list(refusals, name)


def visible(name: str) -> str:
    r"""The name with what a terminal would obey in place of showing it as in `a\x1b[2J.nii`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _settle(path: Path, decided: tuple[str, ...]) -> None:
    # As it was shown, or as it is.
    names = {visible(refusal.file): refusal.file for refusal in quarantine.read(path)}
    quarantine.decided(path, [names.get(file, file) for file in decided])


def _list(refusals: list[Refusal], name: str) -> None:
    if not refusals:
        out.print(f"nothing of {name} is in quarantine")
        return
    for kind, group in groupby(sorted(refusals, key=lambda r: (r.kind, r.file)), lambda r: r.kind):
        some = [*group]
        out.print(Text(f"{kind} ({len(some)})", "bold"))
        if kind in MEANING:
            out.print(Padding(Text(MEANING[kind].format(name=name)), (0, 0, 0, 2)))
        out.print()
        for refusal in some:
            # Text: a name in brackets is no markup.
            head = Text(visible(refusal.file), "yellow")
            head.append(f"  {kind}, since {refusal.first_seen}", "dim")
            say(out, head)
            out.print(Padding(Text(visible(refusal.reason)), (0, 0, 0, 2)))
        out.print()

"""`keyslice check`: what is wrong with a dataset, and what is worth a look."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console.output import bar, out, print_json
from keyslice.exams import checks
from keyslice.exams.finding import Finding

SHOWN = 10
"""Exams of a finding at most; the others are counted."""
DIGITS = 12
"""Of an exam's id; enough to tell it from all others."""
STYLES = {"wrong": "bold red", "note": "yellow"}


def run(workspace: Workspace, params: Params, name: str, *, as_json: bool) -> bool:
    """Print what was found; whether nothing is wrong."""
    with bar() as progress:
        task = progress.add_task(f"reading {name}", total=None)
        findings = checks.run(
            workspace,
            params,
            name,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    wrong = sum(finding.level == "wrong" for finding in findings)
    if as_json:
        print_json({"dataset": name, "wrong": wrong, "findings": list(map(asdict, findings))})
    else:
        out.print(_list(findings))
        notes = len(findings) - wrong
        told = f"{wrong} wrong" if wrong else "nothing wrong"
        out.print(Text(f"{name}: {told}" + (f", {notes} to look at" if notes else "")))
    return not wrong


def _list(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, STYLES[finding.level]), Text(line(finding)))
    return table


def line(finding: Finding) -> str:
    """`exams that are missing (12): 0a1b2c3d4e5f, … and 2 more`, and the way out."""
    told = finding.what
    if count := len(finding.exams):
        others = [f" ~ {other[:DIGITS]}" for other in finding.others] or [""] * count
        pairs = zip(finding.exams, others, strict=True)
        shown = [f"{exam[:DIGITS]}{other}" for exam, other in pairs][:SHOWN]
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        told = f"exams that {told} ({count}): "
        told += ", ".join(shown) + more
    # On a line of its own a command can be copied.
    return f"{told}\n{finding.remedy}" if finding.remedy else told

"""`keyslice ingest`: a bar while exams are read, then an account of every file."""

from dataclasses import asdict

from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console.output import bar, err, out, print_json
from keyslice.exams.ingestion import IngestReport
from keyslice.ingest import Ingested, ingest_dataset

ACCOUNT = {
    "accepted": "accepted",
    "present": "already there",
    "duplicates": "duplicate",
    "left_out": "left out (class too rare)",
    "quarantined": "quarantined",
}
SHOWN_REFUSALS = 10


def run(workspace: Workspace, params: Params, name: str, *, as_json: bool) -> None:
    """Ingest dataset `name` and say what became of its files."""
    with bar() as progress:
        task = progress.add_task(f"reading {name}", total=None)
        result = ingest_dataset(
            workspace,
            params,
            name,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(asdict(result))
        return
    show_refusals(workspace, result.report)
    out.print(f"[bold]{name}[/bold]  {account(result.report)}")
    for line in changes(result.report):
        out.print(line)
    out.print(f"version {version_line(result)}")
    out.print(f"next: [bold]keyslice retrain {name}[/bold]")


def account(report: IngestReport) -> str:
    """`240 found = 238 accepted + 2 quarantined`: the parts that are not zero."""
    counts = asdict(report)
    parts = [f"{counts[key]} {words}" for key, words in ACCOUNT.items() if counts[key]]
    return f"{report.found} found = {' + '.join(parts) or '0'}"


def changes(report: IngestReport) -> list[str]:
    """What the account does not tell, a line each."""
    lines = {
        f"{report.across_splits} of the duplicates are listed in two splits; each such exam stays "
        "in the most held-out one": report.across_splits,
        f"{report.relabelled} of those already there have another label now": report.relabelled,
        f"{report.removed} that were in the dataset are in it no longer": report.removed,
    }
    return [line for line, count in lines.items() if count]


def version_line(result: Ingested) -> str:
    """The version, and whether it is a new one."""
    if result.previous == result.version:
        return f"{result.version[:12]}, as before"
    if result.previous is None:
        return f"{result.version[:12]}, the first"
    return f"{result.version[:12]}, was {result.previous[:12]}"


def show_refusals(workspace: Workspace, report: IngestReport) -> None:
    """The first refusals, and where all are listed."""
    for refusal in report.refused[:SHOWN_REFUSALS]:
        # Text: a name in brackets is no markup.
        err.print(Text(f"quarantined {refusal.file}: {refusal.reason}"), soft_wrap=True)
    if report.refused:
        hidden = len(report.refused) - SHOWN_REFUSALS
        more = f"… and {hidden} more; " if hidden > 0 else ""
        place = workspace.quarantine(report.dataset).relative_to(workspace.root)
        err.print(f"{more}the quarantine list is {place}", soft_wrap=True)

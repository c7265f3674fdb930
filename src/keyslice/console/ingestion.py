"""`keyslice ingest`: a bar while exams are read, then an account of every file."""

from dataclasses import asdict

from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console.output import bar, err, out, print_json, say
from keyslice.exams.ingestion import IngestReport
from keyslice.ingest import Ingested, ingest_dataset

SHOWN = 10
"""Names of a kind at most; the others are counted."""


def run(
    workspace: Workspace, params: Params, name: str, *, retry: bool = False, as_json: bool
) -> None:
    """Ingest dataset `name` and say what became of its files; `retry`: see `ingest_dataset`."""
    with bar() as progress:
        task = progress.add_task(f"reading {name}", total=None)
        result = ingest_dataset(
            workspace,
            params,
            name,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            retry=retry,
        )
    if as_json:
        print_json(asdict(result))
        return
    show_waits(result.report)
    show_refusals(workspace, result.report)
    say(out, f"[bold]{name}[/bold]  {account(result.report)}")
    for line in changes(result.report):
        say(out, line)
    show_barred(result.report)
    out.print(f"{result.report.exams} exams, version {version_line(result)}")
    if result.previous != result.version:
        out.print(f"next: [bold]keyslice retrain {name}[/bold]")


def account(report: IngestReport) -> str:
    """`240 files found = 238 accepted (3 new) + 2 quarantined`: the parts that are not zero."""
    accepted = report.accepted + report.present
    new = f" ({report.accepted} new)" if report.accepted and report.present else ""
    parts = {
        f"accepted{new}": accepted,
        "waiting": report.waiting + report.left_out,
        "duplicate": report.duplicates,
        "quarantined": report.quarantined,
        "still arriving": report.arriving,
        "barred": report.barred,
        "skipped": report.skipped,
    }
    told = " + ".join(f"{count} {words}" for words, count in parts.items() if count)
    return f"{report.found} files found = {told or '0'}"


def changes(report: IngestReport) -> list[str]:
    """What the account does not tell, a line each."""
    lines = {
        f"{report.left_out} of those waiting are of a class with too few patients": report.left_out,
        f"{report.across_splits} of the duplicates are listed in two splits; each such exam stays "
        "in the most held-out one": report.across_splits,
        f"exams with another label than before: {report.relabelled}": report.relabelled,
        f"exams no longer in the dataset: {report.removed}": report.removed,
        f"lines of the table that name no exam here: {report.unused_lines}": report.unused_lines,
    }
    return [line for line, count in lines.items() if count]


def version_line(result: Ingested) -> str:
    """The version, and whether it is a new one."""
    if result.previous == result.version:
        return f"{result.version[:12]}, as before"
    if result.previous is None:
        return f"{result.version[:12]}, the first"
    return f"{result.version[:12]}, was {result.previous[:12]}"


def show_waits(report: IngestReport) -> None:
    """The first exams that wait, and what for."""
    for name, reason in report.waits[:SHOWN]:
        # Text: a name in brackets is no markup.
        say(err, Text(f"waiting {name}: {reason}"))
    if len(report.waits) > SHOWN:
        err.print(f"… and {len(report.waits) - SHOWN} more wait")


def show_barred(report: IngestReport) -> None:
    """What was not taken in because its patient has withdrawn, and how it stops being told."""
    if not report.barred:
        return
    names = ", ".join(report.shut[:SHOWN])
    more = f", … and {len(report.shut) - SHOWN} more" if len(report.shut) > SHOWN else ""
    line = (
        f"of patients who have withdrawn, not taken in ({report.barred} files): {names}{more}; "
        "remove them and their lines of the table from the source, and they are not told again"
    )
    say(out, Text(line))


def show_refusals(workspace: Workspace, report: IngestReport) -> None:
    """The first refusals, and where all are listed."""
    for refusal in report.refused[:SHOWN]:
        say(err, Text(f"quarantined {refusal.file}: {refusal.reason}"))
    if report.refused:
        hidden = len(report.refused) - SHOWN
        more = f"… and {hidden} more; " if hidden > 0 else ""
        place = workspace.quarantine(report.dataset).relative_to(workspace.root)
        listed = f"{more}the quarantine list is {place}; see keyslice quarantine {report.dataset}"
        say(err, listed)

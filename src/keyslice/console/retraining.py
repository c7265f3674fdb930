"""`keyslice retrain`: whether there is anything to do is decided before Prefect is imported."""

import logging
import time

from rich.text import Text

from flows.due import due
from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.console.promotion import show_gate
from keyslice.console.results import entry, show_comparison, show_exams
from keyslice.console.selection import chosen
from keyslice.errors import StoppedError
from keyslice.provenance import ledger, standing
from keyslice.registry.publish import published


def run(
    workspace: Workspace,
    params: Params,
    datasets: tuple[str, ...],
    *,
    parallel: int | None = None,
    force: bool = False,
    verbose: bool = False,
    as_json: bool = False,
) -> None:
    """Retrain `datasets` (default: all ingested) where there is anything new.

    As JSON: an object that holds one for each dataset (`keyslice.console.results.entry`).
    """
    names = chosen(workspace, params, datasets)
    if versioning.recover(workspace):
        err.print("cleared away what a killed run had left")
    with err.status("looking for news"):
        reasons = due(workspace, params, names)
    if not reasons and not force:
        versions = {name: published(workspace, params, name) for name in names}
        if as_json:
            print_json({name: entry(workspace, name, v, None) for name, v in versions.items()})
            return
        known = ", ".join(f"{name} registered as version {v}" for name, v in versions.items())
        say(out, f"Nothing new: {known}. No work was done.")
        return
    for reason in reasons:
        say(err, reason)
    start = time.monotonic()
    # Else Prefect tells on the terminal of each line of its log that its server could not take.
    logging.raiseExceptions = verbose
    from flows.retrain import run as run_flow

    try:
        done = run_flow(workspace, names, parallel=parallel, verbose=verbose, console=err)
    except KeyboardInterrupt:
        raise StoppedError("the same command goes on from what is done") from None
    if as_json:
        print_json(
            {
                one.dataset: entry(workspace, one.dataset, one.model_version, one.run_id)
                for one in done
            }
        )
        return
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    for result in done:
        out.print()
        show_comparison(workspace, params, result.dataset)
        show_exams(workspace, result.dataset)
        out.print(
            f"registered [bold]{result.dataset}[/bold] version {result.model_version}  @challenger"
        )
        gated = standing.gate(ledger.read(workspace), result.dataset, result.model_version)
        if gated is not None:
            out.print()
            show_gate(gated)
        for warning in result.warnings:
            say(err, Text(warning, "yellow"))
    out.print(f"took {minutes} min {seconds} s")

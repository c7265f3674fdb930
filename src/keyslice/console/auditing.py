"""`keyslice audit`: one page, and its JSON, that answer for a model's version."""

import json
from pathlib import Path

from rich.text import Text

from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.console import named
from keyslice.console.output import err, out, print_json, say
from keyslice.console.verifying import looked_at
from keyslice.errors import UserError


def run(
    workspace: Workspace,
    params: Params,
    text: str,
    *,
    output: Path | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Write the page and, beside it, the JSON; print where they are, or the JSON itself.

    Args:
        workspace: whose model.
        params: settings.
        text: MODEL, MODEL@alias or MODEL/VERSION.
        output: the page; default: state/audits/<model>-<version>.html.
        verify: recompute all hashes first.
        as_json: print what the page says.

    Raises:
        UserError: there is no such version; or the page would not be called .html.
    """
    model, version = named.version(workspace, text)
    page = output or workspace.state / "audits" / f"{model}-{version}.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise UserError(
            f"{page.name} is no name of a page",
            where="--output",
            rule="it ends in .html; the JSON is written beside it",
            remedy=f"--output {page.with_suffix('.html').name}",
        )
    with err.status("asking MLflow"):
        from keyslice.audit import content, figures, subject
        from keyslice.audit import page as html
    one = subject.subject(workspace, model, version)
    verified = looked_at(workspace, params, model, version) if verify else None
    with err.status("writing"):
        told = content.content(one, verified)
        written = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
        files.write_text(page, html.render(told, figures.figures(one, told)))
        files.write_text(page.with_suffix(".json"), written + "\n")
    if as_json:
        print_json(told)
        return
    verdict = told["verification"]
    if verdict is None:
        say(out, Text("not verified: the page says so", "yellow"))
    elif not verdict["sound"]:
        say(out, Text("not everything is as the ledger says; the page says what", "bold red"))
    say(out, f"{model} version {version}: {page}, and {page.with_suffix('.json').name} beside it")

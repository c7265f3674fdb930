"""`keyslice register`: finished results, also of a plain `dvc repro`, into MLflow."""

from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json
from keyslice.console.results import entry
from keyslice.console.selection import chosen
from keyslice.registry.publish import publish


def run(workspace: Workspace, params: Params, datasets: tuple[str, ...], *, as_json: bool) -> None:
    """Mirror and register `datasets` (default: all ingested)."""
    entries = {}
    for name in chosen(workspace, params, datasets):
        with err.status(f"registering {name}"):
            version = publish(workspace, params, name)
        entries[name] = entry(workspace, name, int(version.version), version.run_id)
        if not as_json:
            out.print(f"[bold]{name}[/bold] version {version.version}  @challenger")
    if as_json:
        print_json(entries)

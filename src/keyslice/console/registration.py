"""`keyslice register`: finished results, also of a plain `dvc repro`, into MLflow."""

from keyslice.config import Params, Workspace
from keyslice.console.output import err, out
from keyslice.console.selection import chosen
from keyslice.registry.publish import publish


def run(workspace: Workspace, params: Params, datasets: tuple[str, ...]) -> None:
    """Mirror and register `datasets` (default: all ingested)."""
    for name in chosen(workspace, params, datasets):
        with err.status(f"registering {name}"):
            version = publish(workspace, params, name)
        out.print(f"[bold]{name}[/bold] version {version.version}  @challenger")

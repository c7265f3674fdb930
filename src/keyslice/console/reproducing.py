"""`keyslice reproduce`: a version built once more from what its provenance names."""

from rich.text import Text

from keyslice.config import Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.provenance import reproduction
from keyslice.versioning import objects


def run(
    workspace: Workspace,
    model: str,
    version: int,
    *,
    tolerance: float,
    present: bool,
    as_json: bool,
) -> bool:
    """Print how the rebuilt version compares; whether it is the same, or nearly."""
    with err.status("checking out the run's commit") as status:

        def tell(line: str) -> None:
            if line.strip():
                status.update(Text(line.strip()[:70]))

        found = reproduction.reproduce(
            workspace,
            model,
            version,
            objects.cache(workspace),
            tolerance=tolerance,
            present=present,
            say=tell,
        )
    if as_json:
        print_json(vars(found))
    else:
        trained = f"; {found.epochs} epochs were trained for it" if found.epochs else ""
        say(out, Text(f"{model} version {version}: {found.words}{trained}"))
        for library in found.libraries:
            say(out, Text(f"another library than the run's: {library}", "yellow"))
    return found.outcome in ("identical", "equivalent")

"""Stages of a checkout that run with its own code, whichever Keyslice is installed."""

import os
import sys
from pathlib import Path

from keyslice import files
from keyslice.config import Workspace
from keyslice.versioning import processes


def code_first(place: Workspace, python: Path | None = None) -> dict[str, str]:
    """An environment in which `keyslice` is the code below `place`.

    Args:
        place: a checkout.
        python: interpreter that runs it; default: this one.
    """
    known = processes.environment()
    shim = place.state / "bin" / "keyslice"
    shim.parent.mkdir(parents=True, exist_ok=True)
    interpreter = python or sys.executable
    files.write_text(shim, f'#!/bin/sh\nexec "{interpreter}" -m keyslice.cli "$@"\n', mode=0o777)
    path = os.pathsep.join([str(shim.parent), known["PATH"]])
    source = os.pathsep.join([str(place.root / "src"), str(place.root)])
    return {"PATH": path, "PYTHONPATH": source}

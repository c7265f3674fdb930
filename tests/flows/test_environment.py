"""Prefect as users meet it: no server of one's own, nothing set but what `environment` says."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from flows.environment import environment
from keyslice.config import Workspace

FLOW = """
from prefect import flow

@flow
def tiny():
    pass

tiny()
"""


def test_prefects_own_server_keeps_to_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    """A flow in a process of its own, as Prefect reads its settings when it is imported."""
    home = tmp_path / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    subprocess.run(
        [sys.executable, "-c", FLOW],
        cwd=home,
        env=own | {"HOME": str(home)} | environment(workspace),
        check=True,
    )
    with sqlite3.connect(workspace.state / "prefect" / "prefect.db") as database:
        assert database.execute("SELECT name FROM flow").fetchall() == [("tiny",)]
    assert list(home.iterdir()) == []

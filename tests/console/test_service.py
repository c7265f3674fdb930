"""What `keyslice status` tells of the service."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyslice.config import Params, Workspace, load
from keyslice.console import service
from keyslice.services.holder import Command, only_one
from keyslice.services.programs import Program

SECRET = "correct-horse-battery"
DEAD = f"http://ann:{SECRET}@127.0.0.1:9"
PREFECT = Program("Prefect", None, page="http://127.0.0.1:9", health=f"{DEAD}/api/health")
SERVERS = {"Prefect": {"page": "http://127.0.0.1:9", "health": "does not answer"}}
TINY = Path(__file__).parents[1] / "tiny_workspace" / "params.yaml"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "params.yaml").write_bytes(TINY.read_bytes())
    return Workspace(tmp_path)


@pytest.fixture
def params(workspace: Workspace) -> Params:
    return load(workspace.params)


def _held(workspace: Workspace, command: Command) -> AbstractContextManager[Any]:
    return only_one(workspace, command, rule="one of them", remedy="end it")


def test_where_nothing_runs_nothing_is_retrained(workspace: Workspace, params: Params) -> None:
    assert service.facts(workspace, params) is None
    assert "nothing is retrained on schedule or on arrival" in service.words(None)


def test_it_tells_which_runs_and_how_its_servers_are(workspace: Workspace, params: Params) -> None:
    with _held(workspace, "serve") as note:
        note([PREFECT])
        assert SECRET not in (workspace.state / "service" / "serve").read_text()
        found = service.facts(workspace, params)
        assert found == {"up": False, "serve": True, "servers": SERVERS, "next": {}}
        told = "\nkeyslice serve runs: Prefect http://127.0.0.1:9 (does not answer)"
        assert service.words(found) == told
        with _held(workspace, "up"):
            found = service.facts(workspace, params)
            assert found == {"up": True, "serve": True, "servers": {}, "next": {}}


def test_it_tells_when_the_serving_process_is_down(workspace: Workspace, params: Params) -> None:
    with _held(workspace, "up") as note:
        note([PREFECT])
        found = service.facts(workspace, params)
    assert found == {"up": True, "serve": False, "servers": SERVERS, "next": {}}
    assert "the serving process does not run" in service.words(found)


def test_it_tells_when_a_dataset_is_due_next(workspace: Workspace) -> None:
    with workspace.params.open("a") as file:
        file.write("retrain: {schedule: {every_minutes: 60}}\n")
    with _held(workspace, "serve"):
        found = service.facts(workspace, load(workspace.params))
    assert found is not None
    [(name, time)] = found["next"].items()
    left = datetime.fromisoformat(time) - datetime.now(UTC)
    assert timedelta(minutes=-1) < left <= timedelta(hours=1)
    assert service.words(found).endswith(f"\n{name} is due next at {time[:10]} {time[11:16]} UTC")


def test_prefect_stays_in_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    """In a process of its own: Prefect makes its folder when it is imported."""
    home = tmp_path / "home"
    home.mkdir()
    with workspace.params.open("a") as file:
        file.write("retrain: {schedule: {every_minutes: 60}}\n")
    variables = {n: v for n, v in os.environ.items() if not n.startswith(("PREFECT_", "XDG_"))}
    with _held(workspace, "serve"):
        told = subprocess.run(
            [sys.executable, "-P", "-m", "keyslice.cli", "status"],
            cwd=workspace.root,
            env=variables | {"HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert "is due next at" in told.stdout, told.stderr
    assert list(home.iterdir()) == []

"""What `keyslice status` tells of the service."""

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

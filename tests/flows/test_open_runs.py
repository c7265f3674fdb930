"""Runs that Prefect takes for open, with a real server, held against the processes there are."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.states import Running, Scheduled

from flows import attempts, current, open_runs
from flows.attempts import Attempt
from flows.open_runs import OpenRuns
from keyslice.config import Workspace

pytestmark = pytest.mark.usefixtures("prefect")
GONE = {"pid": 1, "started": "another boot"}


@pytest.fixture
def deployment() -> UUID:
    with get_client(sync_client=True) as client:
        flow = client.create_flow(current.keep_current)
        return client.create_deployment(flow, f"tiny-{datetime.now(UTC).timestamp()}")


def _run(workspace: Workspace, deployment: UUID, state: State) -> UUID:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            deployment, parameters={"root": str(workspace.root), "dataset": "tiny"}
        )
        client.set_flow_run_state(run.id, state, force=True)
        return run.id


def _looked(workspace: Workspace, deployment: UUID, times: int = 1) -> list[bool]:
    async def look() -> list[bool]:
        async with get_client() as client:
            found = OpenRuns(workspace, client)
            return [await found.any("tiny", deployment) for _ in range(times)]

    return asyncio.run(look())


def _state(run: UUID) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    assert state is not None
    return state.name


def _noted(workspace: Workspace, run: UUID, process: dict[str, object]) -> None:
    note = Attempt("schedule", datetime.now(UTC), process, str(run))
    attempts._write(workspace, "tiny", note)


def test_one_that_waits_in_the_queue_is_open_however_long(
    workspace: Workspace, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _looked(workspace, deployment) == [False]
    monkeypatch.setattr(open_runs, "DOUBTFUL", -1.0)
    run = _run(workspace, deployment, Scheduled(scheduled_time=datetime.now(UTC)))
    assert _looked(workspace, deployment, times=2) == [True, True]
    assert _state(run) == "Scheduled"


def test_one_whose_process_is_gone_has_crashed(workspace: Workspace, deployment: UUID) -> None:
    run = _run(workspace, deployment, Running())
    _noted(workspace, run, GONE)
    assert _looked(workspace, deployment) == [False]
    assert _state(run) == "Crashed"


def test_one_whose_process_lives_is_open(workspace: Workspace, deployment: UUID) -> None:
    run = _run(workspace, deployment, Running())
    attempts.begin(workspace, "tiny", "schedule", str(run))
    assert _looked(workspace, deployment) == [True]
    assert _state(run) == "Running"


def test_one_of_no_known_process_has_crashed_once_it_was_seen_for_long(
    workspace: Workspace, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has just been started has not noted its attempt yet."""
    run = _run(workspace, deployment, Running())
    assert _looked(workspace, deployment, times=2) == [True, True]
    assert _state(run) == "Running"
    monkeypatch.setattr(open_runs, "DOUBTFUL", 0.0)
    assert _looked(workspace, deployment, times=3)[-1] is False
    assert _state(run) == "Crashed"

"""Runs that Prefect takes for open, held against the processes that there are."""

import time
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed
from prefect.types._datetime import now

from flows import attempts
from keyslice.config import Workspace
from keyslice.stages.running import alive

OPEN = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.CANCELLING,
    StateType.PAUSED,
]
DOUBTFUL = 300.0
"""Seconds after which a run that Prefect takes for running, and no process is known of, has
crashed. By this machine's own clock: the server's may be another."""


class OpenRuns:
    """Of the deployments of a workspace."""

    def __init__(self, workspace: Workspace, client: PrefectClient) -> None:
        self._workspace, self._client = workspace, client
        self._seen: dict[UUID, float] = {}
        """Since when a run is known to have begun."""

    async def any(self, dataset: str, deployment: UUID) -> bool:
        """Whether Prefect has a run of the deployment that has begun or is due.

        One whose process is gone is given up: after a kill of everything, Prefect would wait for
        ever.
        """
        attempt, found = attempts.last(self._workspace, dataset), False
        lives = attempt is not None and alive(attempt.process) is not None
        deployed = FlowRunFilterDeploymentId(any_=[deployment])
        for run in await self._open(deployment_id=deployed):
            known = attempt is not None and attempt.run == str(run.id)
            if (known and not lives) or (not known and self._is_doubtful(run)):
                await self._give_up(run)
            else:
                found = True
        return found

    def _is_doubtful(self, run: FlowRun) -> bool:
        assert run.state is not None
        if run.state.is_scheduled():
            return False
        return time.monotonic() - self._seen.setdefault(run.id, time.monotonic()) > DOUBTFUL

    async def _give_up(self, run: FlowRun) -> None:
        parent = FlowRunFilterParentFlowRunId(any_=[run.id])
        for one in (run, *await self._open(parent_flow_run_id=parent)):
            gone = Crashed(message="its process is gone; what is left to do is resumed")
            await self._client.set_flow_run_state(one.id, gone, force=True)
        self._seen.pop(run.id, None)

    async def _open(self, **which: Any) -> list[FlowRun]:
        """Runs that are due or have begun, and have not ended."""
        due = FlowRunFilterExpectedStartTime(before_=now("UTC"))  # pyright: ignore[reportArgumentType]
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))
        criteria = FlowRunFilter(expected_start_time=due, state=state, **which)
        return await self._client.read_flow_runs(flow_run_filter=criteria)

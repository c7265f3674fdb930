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
        self._seen: dict[UUID, dict[UUID, float]] = {}
        """Of each deployment's open runs: since when they are known to have begun."""

    async def any(self, dataset: str, deployment: UUID) -> bool:
        """Whether Prefect has a run of the deployment that has begun or is due.

        One whose process is gone is given up: after a kill of everything, Prefect would wait for
        ever.
        """
        attempt, found = attempts.last(self._workspace, dataset), False
        lives = attempt is not None and alive(attempt.process) is not None
        deployed = FlowRunFilterDeploymentId(any_=[deployment])
        runs, moment = await self._open(deployment_id=deployed), time.monotonic()
        before = self._seen.get(deployment, {})
        begun = [run.id for run in runs if run.state and not run.state.is_scheduled()]
        seen = self._seen[deployment] = {one: before.get(one, moment) for one in begun}
        for run in runs:
            if attempt is not None and attempt.run == str(run.id):
                gone = not lives
            else:
                gone = run.id in seen and moment - seen[run.id] > DOUBTFUL
            if gone:
                await self._give_up(run)
            else:
                found = True
        return found

    async def _give_up(self, run: FlowRun) -> None:
        parent = FlowRunFilterParentFlowRunId(any_=[run.id])
        for one in (run, *await self._open(parent_flow_run_id=parent)):
            gone = Crashed(message="its process is gone; what is left to do is resumed")
            await self._client.set_flow_run_state(one.id, gone, force=True)

    async def _open(self, **which: Any) -> list[FlowRun]:
        """Runs that are due or have begun, and have not ended."""
        due = FlowRunFilterExpectedStartTime(before_=now("UTC"))  # pyright: ignore[reportArgumentType]
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))
        criteria = FlowRunFilter(expected_start_time=due, state=state, **which)
        return await self._client.read_flow_runs(flow_run_filter=criteria)

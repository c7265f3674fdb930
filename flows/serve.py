"""`keyslice serve`: a deployment for each dataset, the runs they ask for, and the watches.

Prefect keeps the schedules and the record; each run is a process of its own.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import DeploymentEventTrigger, emit_event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runner import Runner
from prefect.schedules import Cron, Interval
from prefect.schedules import Schedule as PrefectSchedule
from prefect.states import Crashed
from prefect.types._datetime import now
from prefect.types.entrypoint import EntrypointType

from flows import attempts
from flows.current import keep_current
from flows.times import ANCHOR
from flows.watch import Order, Watch
from keyslice import versioning
from keyslice.config import FolderDataset, Params, Schedule, Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance.installation import installation
from keyslice.stages.running import alive

ARRIVED = "keyslice.exams.arrived"
"""The event that starts a retraining; see `resource_of`."""
POLL_SECONDS = 30.0
"""From one question for runs that are due to the next, at most; else retrain.watch_seconds."""
OPEN = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.CANCELLING,
    StateType.PAUSED,
]
DOUBTFUL = timedelta(minutes=5)
"""After which a run that Prefect takes for running, and no process is known of, has crashed."""

Tell = Callable[[str], None]


def resource_of(workspace: Workspace, dataset: str) -> dict[str, str]:
    """How events name a dataset; several installations may share a Prefect server."""
    return {
        "prefect.resource.id": f"keyslice.dataset.{dataset}",
        "keyslice.installation": installation(workspace),
    }


async def _deploy(
    runner: Runner, workspace: Workspace, params: Params, client: PrefectClient
) -> dict[str, UUID]:
    """Deployments by dataset; those of datasets that are not configured any more are removed."""
    own = installation(workspace)
    ids = {name: await _deploy_one(runner, workspace, params, name) for name in params.datasets}
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["keyslice", own]))
    for found in await client.read_deployments(deployment_filter=tagged):
        if found.id not in ids.values():
            await client.delete_deployment(found.id)
    return ids


async def _deploy_one(runner: Runner, workspace: Workspace, params: Params, name: str) -> UUID:
    schedule, own = params.retrain_settings(name).schedule, installation(workspace)
    why = {"__prefect_kind": "jinja", "template": "{{ event.payload.why }}"}
    # The flow itself, not a path to it: a run would look for that in the workspace first.
    return await runner.aadd_flow(
        keep_current,
        f"{name}-{own[:8]}",
        schedules=[] if schedule is None else [_schedule(schedule)],
        parameters={
            "root": str(workspace.root),
            "dataset": name,
            "why": "by hand, on Prefect's page",
        },
        triggers=[
            DeploymentEventTrigger(
                name=f"exams of {name} have arrived",
                expect={ARRIVED},
                match={**resource_of(workspace, name)},
                parameters={"why": why},
            )
        ],
        description=f"Retrain {name} where there is cause to: new exams, new settings or code.",
        tags=["keyslice", own, name],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _schedule(schedule: Schedule) -> PrefectSchedule:
    parameters = {"why": "schedule"}
    if schedule.cron is not None:
        return Cron(
            schedule.cron, timezone=schedule.timezone, parameters=parameters, slug="schedule"
        )
    assert schedule.every_minutes is not None
    return Interval(
        timedelta(minutes=schedule.every_minutes),
        anchor_date=ANCHOR,
        parameters=parameters,
        slug="schedule",
    )


class SteadyRunner(Runner):
    """Prefect's runner, which waits for a server that is away.

    Prefect's own gives up after three questions without an answer, and ends its runs with it.
    """

    async def poll(self, tell: Tell) -> None:
        """Start the runs that are due, until cancelled."""
        away = False
        while True:
            try:
                await self._get_and_submit_flow_runs()
                if away:
                    tell("Prefect's server answers again")
                away = False
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                if not away:
                    tell(f"Prefect's server does not answer ({type(error).__name__}); waiting")
                away = True
            await anyio.sleep(self.query_seconds)


def serve(workspace: Workspace, params: Params, tell: Tell) -> None:
    """Serve until SIGTERM or SIGINT; runs that are under way are ended, and resumed next time.

    Args:
        workspace: to serve.
        params: its settings, as they are now.
        tell: shows a line.

    Raises:
        RunError: Prefect's server does not answer.
    """
    asyncio.run(_serve(workspace, params, tell))


async def _serve(workspace: Workspace, params: Params, tell: Tell) -> None:
    stopping = anyio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = SteadyRunner(
        "keyslice",
        query_seconds=min(POLL_SECONDS, params.retrain.watch_seconds),
        limit=params.service.retrainings,
        pause_on_shutdown=False,
    )
    try:
        async with get_client() as client:
            ids = await _deploy(runner, workspace, params, client)
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        address = os.environ.get("PREFECT_API_URL", "")
        raise RunError(f"Prefect's server at {address} does not answer ({error})") from error
    versioning.recover(workspace)
    async with runner:
        async with anyio.create_task_group() as tasks:
            tell(f"serving {', '.join(ids)}")
            tasks.start_soon(runner.poll, tell)
            tasks.start_soon(_watch, workspace, params, ids, tell)
            await stopping.wait()
            tell("stopping")
            tasks.cancel_scope.cancel()  # before runs end: a watch would have them resumed
        await runner.cancel_all()


async def _watch(workspace: Workspace, params: Params, ids: Mapping[str, UUID], tell: Tell) -> None:
    watches = {
        name: Watch(
            workspace,
            name,
            dataset if isinstance(dataset, FolderDataset) else None,
            params.retrain_settings(name),
            partial(_count, workspace),
        )
        for name, dataset in params.datasets.items()
    }
    said: dict[str, str] = {}
    seen = {name: _words(workspace, name) for name in watches}
    async with get_client() as client:
        while True:
            for name, watch in watches.items():
                try:
                    if (words := _words(workspace, name)) != seen[name]:
                        tell(f"{name}: {words}")
                        seen[name] = words
                    order = await anyio.to_thread.run_sync(watch.look)
                    if order and not await _under_way(workspace, client, name, ids[name]):
                        await _give(workspace, client, name, ids[name], order, watch.lost)
                        watch.given(order)
                        tell(f"{name}: {order[1]}")
                    said.pop(name, None)
                except Exception as error:  # a watch looks again, whatever was in its way
                    told = str(error) or type(error).__name__
                    if said.get(name) != told:  # not each minute
                        tell(f"{name}: {told}")
                    said[name] = told
            await anyio.sleep(params.retrain.watch_seconds)


def _words(workspace: Workspace, dataset: str) -> str:
    last = attempts.last(workspace, dataset)
    return "" if last is None else last.words


def _count(workspace: Workspace, dataset: str) -> set[str]:
    """Asked in a process of its own: a damaged header ends that one, and memory is given back."""
    lines: list[str] = []
    command = (sys.executable, "-P", "-m", "keyslice.cli", "inbox", dataset, "--json")
    ended = versioning.run(command, cwd=workspace.root, on_line=lines.append)
    if ended.code != 0:
        last = lines[-1] if lines else f"exit code {ended.code}"
        raise (UserError if ended.code == 2 else RunError)(last.removeprefix("error: "))
    return set(json.loads("".join(lines))[dataset]["new"])


async def _give(
    workspace: Workspace,
    client: PrefectClient,
    name: str,
    deployment: UUID,
    order: Order,
    lost: bool,
) -> None:
    """An arrival is an event, which others may listen to, too; it goes direct after one was `lost`.

    A Prefect server whose PostgreSQL was away hears of no deployment that is made afterwards: the
    event of an arrival starts nothing until that server is started anew.
    """
    kind, why = order
    if kind == "arrival" and not lost:
        emit_event(ARRIVED, resource_of(workspace, name), payload={"why": why})
    else:
        await client.create_flow_run_from_deployment(deployment, parameters={"why": why})


async def _under_way(
    workspace: Workspace, client: PrefectClient, name: str, deployment: UUID
) -> bool:
    """Whether Prefect has a run of the deployment that has begun or is due.

    One whose process is gone is given up: after a kill of everything, Prefect would wait for ever.
    """
    attempt, found = attempts.last(workspace, name), False
    lives = attempt is not None and alive(attempt.process) is not None
    for run in await _open(client, deployment_id=FlowRunFilterDeploymentId(any_=[deployment])):
        assert run.state is not None
        known = attempt is not None and attempt.run == str(run.id)
        old = datetime.now(UTC) - run.state.timestamp > DOUBTFUL
        if (known and not lives) or (old and not known and not run.state.is_scheduled()):
            parent = FlowRunFilterParentFlowRunId(any_=[run.id])
            for one in (run, *await _open(client, parent_flow_run_id=parent)):
                gone = Crashed(message="its process is gone; what is left to do is resumed")
                await client.set_flow_run_state(one.id, gone, force=True)
        else:
            found = True
    return found


async def _open(client: PrefectClient, **which: Any) -> list[FlowRun]:
    """Runs that are due or have begun, and have not ended."""
    due = FlowRunFilterExpectedStartTime(before_=now("UTC"))  # pyright: ignore[reportArgumentType]
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))
    criteria = FlowRunFilter(expected_start_time=due, state=state, **which)
    return await client.read_flow_runs(flow_run_filter=criteria)

"""A deployment for each dataset: when it runs, and the event that starts it."""

from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.events import DeploymentEventTrigger
from prefect.runner import Runner
from prefect.schedules import Cron, Interval
from prefect.schedules import Schedule as PrefectSchedule
from prefect.types.entrypoint import EntrypointType

from flows.current import keep_current
from flows.times import ANCHOR, next_after
from keyslice.config import Params, Schedule, Workspace
from keyslice.provenance.installation import installation

ARRIVED = "keyslice.exams.arrived"
"""The event that starts a retraining; see `resource_of`."""


async def deploy(
    runner: Runner, workspace: Workspace, params: Params, client: PrefectClient
) -> dict[str, UUID]:
    """Deployments by dataset; those of datasets that are not configured any more are removed."""
    own = installation(workspace)
    ids = {name: await _deploy_one(runner, workspace, params, name) for name in params.datasets}
    for name, deployment in ids.items():
        if params.retrain_settings(name).schedule is None:  # Prefect keeps the one there was
            for old in await client.read_deployment_schedules(deployment):
                await client.delete_deployment_schedule(deployment, old.id)
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["keyslice", own]))
    for found in await client.read_deployments(deployment_filter=tagged):
        if found.id not in ids.values():
            await client.delete_deployment(found.id)
    return ids


def served(params: Params, now: datetime) -> str:
    """The datasets, and when each is due next: `liver (next 2027-01-01 01:00 UTC), ward`."""

    def words(name: str) -> str:
        schedule = params.retrain_settings(name).schedule
        return f"{name} (next {next_after(schedule, now):%Y-%m-%d %H:%M} UTC)" if schedule else name

    return ", ".join(map(words, params.datasets))


def resource_of(workspace: Workspace, dataset: str) -> dict[str, str]:
    """How events name a dataset; several installations may share a Prefect server."""
    return {
        "prefect.resource.id": f"keyslice.dataset.{dataset}",
        "keyslice.installation": installation(workspace),
    }


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

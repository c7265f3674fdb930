"""Runs that the schedule asked for while nothing could run: the next one does the work of all."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Completed

SCHEDULED = "auto-scheduled"
"""The tag that Prefect gives to runs that a schedule asks for."""

_log = logging.getLogger(__name__)


def skip(deployment: UUID) -> int:
    """End, as skipped, the scheduled runs of a deployment that are due by now; returns how many.

    For the run that has just begun: it does what they were for. Where Prefect's server does not
    answer, they run, one after the other, and find nothing new.
    """
    due = FlowRunFilterExpectedStartTime(before_=datetime.now(UTC))  # pyright: ignore[reportArgumentType]
    waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    criteria = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        expected_start_time=due,
        state=waiting,
        tags=FlowRunFilterTags(all_=[SCHEDULED]),
    )
    skipped = Completed(name="Skipped", message="it came late; the run before it did its work")
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_run_filter=criteria)
            for run in found:
                client.set_flow_run_state(run.id, skipped)
            return len(found)
    except Exception:  # as said above
        _log.info("overdue runs could not be skipped", exc_info=True)
        return 0

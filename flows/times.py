"""When a schedule is due next."""

import asyncio
from datetime import UTC, datetime, timedelta

from prefect.server.schemas.schedules import CronSchedule

from keyslice.config import Schedule

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, so that a restart does not shift them."""


def next_after(schedule: Schedule, time: datetime) -> datetime:
    """The first time of a schedule that is later than `time`, in UTC.

    Of a cron schedule it is Prefect's own answer, whose server asks for the runs: others read a
    night without its third hour differently, and days of month together with days of week.

    Args:
        schedule: see there.
        time: with its zone.
    """
    if schedule.cron is not None:
        times = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
        # Of Prefect's own kind of time, which is not to be reckoned with beyond here.
        found = [one.timestamp() for one in asyncio.run(times.get_dates(n=2, start=time))]
        return datetime.fromtimestamp(min(t for t in found if t > time.timestamp()), UTC)
    assert schedule.every_minutes is not None
    every = timedelta(minutes=schedule.every_minutes)
    return ANCHOR + ((time - ANCHOR) // every + 1) * every

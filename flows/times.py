"""When a schedule is due next."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from keyslice.config import Schedule

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, so that a restart does not shift them."""


def next_after(schedule: Schedule, time: datetime) -> datetime:
    """The first time of a schedule that is later than `time`.

    Args:
        schedule: see there.
        time: with its zone.
    """
    if schedule.cron is not None:
        return next(CronSim(schedule.cron, time.astimezone(ZoneInfo(schedule.timezone))))
    assert schedule.every_minutes is not None
    every = timedelta(minutes=schedule.every_minutes)
    return ANCHOR + ((time - ANCHOR) // every + 1) * every

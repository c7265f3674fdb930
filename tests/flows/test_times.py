"""When a schedule is due next."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule

from flows.times import ANCHOR, next_after
from keyslice.config import Schedule

TIMES = st.datetimes(datetime(2021, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
SCHEDULES = st.one_of(
    st.sampled_from(["0 2 * * *", "*/7 * * * *", "30 1 * * 0", "0 0 29 2 *"]).map(
        lambda cron: Schedule(cron=cron, timezone="Europe/Berlin")
    ),
    st.floats(0.1, 10_000).map(lambda minutes: Schedule(every_minutes=minutes)),
)


@given(SCHEDULES, TIMES)
def test_it_is_later_and_nothing_lies_between(schedule: Schedule, time: datetime) -> None:
    due = next_after(schedule, time)
    assert due > time
    assert next_after(schedule, time + (due - time) / 2) == due


def test_a_night_follows_summer_time_of_its_zone() -> None:
    night = Schedule(cron="0 2 * * *", timezone="Europe/Berlin")
    winter = next_after(night, datetime(2026, 1, 10, 12, tzinfo=UTC))
    summer = next_after(night, datetime(2026, 7, 10, 12, tzinfo=UTC))
    assert winter.astimezone(UTC) == datetime(2026, 1, 11, 1, tzinfo=UTC)
    assert summer.astimezone(UTC) == datetime(2026, 7, 11, 0, tzinfo=UTC)


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "30 1-3 * * *", "0 2 */2 * 1"])
def test_each_time_at_which_prefect_starts_a_run_is_known(zone: str, cron: str) -> None:
    """Over a year, and through the hours that summer time leaves out and repeats."""
    year = datetime(2026, 1, 1, tzinfo=UTC)
    theirs = CronSchedule(cron=cron, timezone=zone)
    times = asyncio.run(theirs.get_dates(n=10_000, start=year, end=year + timedelta(days=365)))
    expected = sorted({one.timestamp() for one in times if one.timestamp() > year.timestamp()})
    found, schedule = [year], Schedule(cron=cron, timezone=zone)
    while found[-1].timestamp() < expected[-1]:
        found.append(next_after(schedule, found[-1]))
    assert [one.timestamp() for one in found[1:]] == expected


@pytest.mark.parametrize("cron", ["0 2 * * 5L", "0 2 LW * *", "0 2 15W * *"])
def test_times_that_prefect_does_not_know_are_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="Prefect"):
        Schedule(cron=cron)


def test_a_restart_does_not_shift_an_interval() -> None:
    each_hour = Schedule(every_minutes=60)
    for minutes in (1, 17, 59):
        due = next_after(each_hour, ANCHOR + timedelta(days=3, minutes=minutes))
        assert due == ANCHOR + timedelta(days=3, hours=1)

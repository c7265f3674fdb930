"""When a schedule is due next."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

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


def test_a_restart_does_not_shift_an_interval() -> None:
    each_hour = Schedule(every_minutes=60)
    for minutes in (1, 17, 59):
        due = next_after(each_hour, ANCHOR + timedelta(days=3, minutes=minutes))
        assert due == ANCHOR + timedelta(days=3, hours=1)

"""What is to be done outside a schedule, minute by minute, by a clock of the test's own."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from flows import attempts
from flows.attempts import Attempt
from flows.watch import LATE, PATIENCE, Watch
from keyslice.config import FolderDataset, RetrainOfOne, Schedule, Workspace
from keyslice.stages.running import only_retraining

NOON = datetime(2030, 5, 1, 12, tzinfo=UTC)
NIGHTLY = Schedule(cron="0 2 * * *")
GONE = {"pid": 1, "started": "another boot"}


class World:
    """An inbox, a clock, and what an ingestion would find new."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.time = workspace, NOON
        self.seconds = 0.0
        """Of a clock that nobody sets."""
        self.new: set[str] = set()
        self.counted = 0
        self.inbox = workspace.inbox("scans")
        self.inbox.mkdir(parents=True)
        (self.inbox / "labels.csv").touch()

    def watch(self, **settings: object) -> Watch:
        dataset = FolderDataset(source="folder", classes=("a", "b"))
        return Watch(
            self.workspace,
            "scans",
            dataset,
            RetrainOfOne.model_validate({"quiet_minutes": 10, **settings}),
            self._count,
            clock=lambda: self.seconds,
            now=lambda: self.time,
        )

    def _count(self, name: str) -> set[str]:
        assert name == "scans"
        self.counted += 1
        return set(self.new)

    def arrives(self, *names: str) -> None:
        for name in names:
            (self.inbox / name).write_text("an exam")
            self.new.add(name)

    def ingested(self) -> None:
        self.new.clear()

    def pass_(self, **time: float) -> None:
        self.time += timedelta(**time)
        self.seconds += timedelta(**time).total_seconds()

    def attempted(self, *, minutes: float = 0, **facts: object) -> None:
        begun = self.time + timedelta(minutes=minutes)
        values = {"why": "", "begun": begun, "process": GONE, "ended": begun, **facts}
        attempts._write(self.workspace, "scans", Attempt(**values))  # pyright: ignore

    def settle(self, watch: Watch, minutes: int = 11) -> list[str]:
        """Look each minute; kinds of the orders, each of which is given."""
        kinds = []
        for _ in range(minutes + 1):
            if order := watch.look():
                kinds.append(order[0])
                watch.given(order)
            self.pass_(minutes=1)
        return kinds


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Workspace(tmp_path))


def test_an_arrival_is_ordered_once_it_has_been_quiet(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    assert world.settle(watch, 5) == []
    world.arrives("b")  # still copying
    assert world.settle(watch, 8) == []
    order = None
    for _ in range(5):
        order = order or watch.look()
        world.pass_(minutes=1)
    assert order == ("arrival", "arrival: 2 new exams")


def test_a_quiet_inbox_is_not_counted_again(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    assert world.settle(watch, 11) == ["arrival"]
    world.ingested()
    world.attempted()
    assert world.settle(watch, 600) == []
    assert world.counted == 2  # once more, of what the run has left


def test_what_arrives_during_a_run_is_gathered_into_the_next(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    assert world.settle(watch) == ["arrival"]
    with only_retraining(world.workspace, ["scans"], "keyslice serve"):
        world.ingested()
        world.arrives("b")
        assert world.settle(watch, 30) == []
        world.arrives("c")
        assert world.settle(watch, 30) == []
    world.attempted()
    assert world.settle(watch, 12) == ["arrival"]
    assert len(world.new) == 2


def test_fewer_than_the_minimum_wait_for_more(world: World) -> None:
    watch = world.watch(minimum_new_exams=3)
    world.arrives("a", "b")
    assert world.settle(watch, 60) == []
    world.arrives("c")
    assert world.settle(watch, 11) == ["arrival"]


def test_exams_that_an_ingestion_leaves_are_asked_for_once(world: World) -> None:
    watch = world.watch()
    world.arrives("of a class too rare")
    assert world.settle(watch) == ["arrival"]
    world.attempted()
    assert world.settle(watch, 60) == []
    world.arrives("another")
    assert world.settle(watch) == ["arrival"]


@pytest.mark.parametrize("outcome", ["nothing new", "failed", "cancelled"])
def test_a_night_that_began_half_a_second_early_is_not_made_up(world: World, outcome: str) -> None:
    """As Prefect lets them."""
    watch = world.watch(schedule=NIGHTLY)
    night = NOON.replace(hour=2) + timedelta(days=1)
    world.pass_(hours=14)
    world.attempted(minutes=-0.5 / 60, due=night, outcome=outcome)
    world.pass_(minutes=-0.5 / 60)
    assert watch.look() is None
    assert world.settle(watch, 60) == []
    world.pass_(days=1)
    assert [order[0] for order in [watch.look()] if order] == ["made up"]


def test_orders_that_come_to_nothing_are_given_less_and_less_often(world: World) -> None:
    """As while a full disk takes no note of an attempt."""
    watch = world.watch()
    world.arrives("a")
    given = []
    for minute in range(24 * 60):
        if order := watch.look():
            watch.given(order)
            given.append(minute)
        world.pass_(minutes=1)
    waits = [later - one for one, later in pairwise(given)]
    assert waits[:4] == [5, 10, 20, 40]
    assert set(waits[4:]) == {80}
    world.attempted(outcome="failed")
    world.arrives("b")
    assert world.settle(watch) == ["arrival"]
    assert not watch.lost


def test_an_order_that_got_lost_is_given_again(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    assert world.settle(watch, 10) == ["arrival"]
    assert not watch.lost
    world.pass_(seconds=PATIENCE)
    order = watch.look()
    assert order is not None
    assert order[0] == "arrival"
    assert watch.lost
    watch.given(order)
    world.attempted(outcome="retrained")
    world.ingested()
    assert world.settle(watch, 10) == []
    assert not watch.lost


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_an_order_that_waited_in_a_queue_is_no_cause_for_another(
    world: World, outcome: str
) -> None:
    watch = world.watch()
    world.arrives("a")
    assert world.settle(watch, 10) == ["arrival"]
    for _ in range(60):  # another dataset is being retrained: Prefect has the run, and says so
        world.pass_(minutes=1)
        watch.look()
    world.attempted(outcome=outcome)  # and leaves the exam where it is
    assert world.settle(watch, 60) == []


@pytest.mark.parametrize("back", [timedelta(0), timedelta(hours=2), timedelta(days=400)])
def test_a_clock_that_is_set_back_delays_nothing(world: World, back: timedelta) -> None:
    watch = world.watch(schedule=Schedule(every_minutes=60))
    world.attempted(ended=None)
    assert world.settle(watch, 0) == ["resumed"]
    world.time -= back
    world.attempted(ended=None, run="the resumed one")
    assert world.settle(watch, 0) == ["resumed"]
    world.time -= back
    world.attempted(minutes=2 * back.total_seconds() / 60, run="noted before the last step back")
    assert set(world.settle(watch, 70)) == {"made up"}


def test_a_run_that_was_stopped_is_resumed_however_often(world: World) -> None:
    watch = world.watch(attempts=2)
    for number in range(5):
        world.attempted(outcome="stopped", run=str(number))
        assert world.settle(watch, 0) == ["resumed"]


def test_an_order_that_was_not_given_stands(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    watch.look()
    world.pass_(minutes=11)
    assert watch.look() == watch.look() == ("arrival", "arrival: 1 new exam")
    assert world.counted == 1


def test_a_run_that_was_cut_off_is_resumed_so_many_times(world: World) -> None:
    watch = world.watch(attempts=3)
    for cut_off, expected in ((0, ["resumed"]), (1, ["resumed"]), (2, ["given up"])):
        world.attempted(ended=None, cut_off=cut_off)
        assert world.settle(watch, 0) == expected
        world.pass_(minutes=10)


def test_a_run_that_failed_or_was_cancelled_is_not_resumed(world: World) -> None:
    watch = world.watch()
    for outcome in ("failed", "cancelled", "nothing new", "retrained"):
        world.attempted(outcome=outcome)
        assert world.settle(watch, 30) == []


def test_a_run_that_goes_on_is_left_alone(world: World) -> None:
    watch = world.watch(schedule=NIGHTLY)
    attempts.begin(world.workspace, "scans", "schedule", "run")
    with only_retraining(world.workspace, ["scans"], "keyslice serve"):
        world.pass_(days=2)
        assert world.settle(watch, 30) == []


def test_a_missed_night_is_made_up_once_however_many_were_missed(world: World) -> None:
    world.watch(schedule=NIGHTLY)
    world.pass_(days=3)  # nothing served in between
    watch = world.watch(schedule=NIGHTLY)
    order = watch.look()
    assert order is not None
    assert order[0] == "made up"
    watch.given(order)
    world.attempted(outcome="nothing new")
    assert world.settle(watch, 60) == []


def test_a_night_that_ran_is_not_made_up(world: World) -> None:
    watch = world.watch(schedule=NIGHTLY)
    world.time = NOON.replace(day=2, hour=2)
    world.attempted(minutes=0.2, outcome="nothing new")
    assert world.settle(watch, 60 * 12) == []


def test_a_night_has_a_while_to_begin(world: World) -> None:
    watch = world.watch(schedule=NIGHTLY)
    world.time = NOON.replace(day=2, hour=2) + LATE - timedelta(seconds=1)
    assert watch.look() is None
    world.pass_(seconds=1)
    assert watch.look() is not None


def test_a_new_schedule_owes_nothing(world: World) -> None:
    world.attempted(minutes=-60 * 24 * 30)
    watch = world.watch(schedule=NIGHTLY)
    assert world.settle(watch, 60) == []
    other = world.watch(schedule=Schedule(cron="0 3 * * *"))
    assert world.settle(other, 60) == []


def test_nothing_is_watched_where_that_is_off_or_the_source_is_no_folder(world: World) -> None:
    world.arrives("a")
    assert world.settle(world.watch(watch=False), 60) == []


def test_a_share_that_comes_back_is_looked_at_anew(world: World) -> None:
    watch = world.watch()
    world.arrives("a")
    world.inbox.rename(world.inbox.with_name("away"))
    assert world.settle(watch, 30) == []
    world.inbox.with_name("away").rename(world.inbox)
    assert world.settle(watch, 12) == ["arrival"]


def test_looking_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, flows.watch; print(sorted({'torch', 'pandas', 'mlflow'} & {*sys.modules}))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True
    )
    assert found.stdout.strip() == "[]"

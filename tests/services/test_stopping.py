"""`make chaos`: a retraining is cancelled by a person; stopped while Prefect's server is away."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flows.attempts import Attempt
from tests.servers.prefect import Prefect
from tests.services.world import BOUNDARIES, World

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes minutes: make chaos"),
    pytest.mark.timeout(1800),
]
LOOKS = 15.0
"""Seconds, in which the service looks as many times for something to resume."""
STOPS = 75.0
"""Seconds at most: `keyslice up` and systemd wait as long, or longer."""


class Served(World):
    """By `keyslice serve`, on a Prefect server of its own."""

    def __init__(self, home: Path) -> None:
        (home / "prefect").mkdir()
        self.prefect = Prefect(home / "prefect")
        super().__init__(home / "workspace", "serve", **self.prefect.variables)

    def trains(self) -> Attempt:
        """The run that has begun to train, in a service that has just been started."""
        self.restore()
        self.start()
        self.wait(BOUNDARIES["a training has begun"](self), "no training")
        begun = self.attempt()
        assert begun is not None
        return begun

    def stages(self) -> list[str]:
        """What works on a stage, or for DVC."""
        words = [one.cmdline() for one in self.processes()]
        return [" ".join(one) for one in words if {"stage", "dvc"} & set(one)]


@pytest.fixture(scope="module")
def world(clone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("world")
    found = Served(home)
    with found.prefect.started():
        found.make(clone({}), {"url": str(home / "far")}, {})
        yield found
        found.kill()


def test_what_a_person_cancels_ends_with_all_its_processes_and_is_not_resumed(
    world: Served,
) -> None:
    begun = world.trains()
    cancelling = {"state": {"type": "CANCELLING"}, "force": True}
    page = f"{world.prefect.url}/flow_runs/{begun.run}"
    httpx.post(f"{page}/set_state", json=cancelling, timeout=60).raise_for_status()
    world.wait(lambda: (world.attempt() or begun).ended, "not cancelled")
    world.wait(lambda: not world.stages(), "stages are left")
    time.sleep(LOOKS)
    last = world.attempt()
    assert last is not None
    assert (last.run, last.outcome) == (begun.run, "cancelled")
    world.wait(
        lambda: httpx.get(page, timeout=60).json()["state"]["type"] == "CANCELLED",
        "Prefect does not say so",
    )
    world.end()
    assert "approve scans 2" in world.keyslice("retrain", "scans")


def test_the_service_ends_soon_while_prefects_server_is_away_and_resumes(world: Served) -> None:
    begun = world.trains()
    world.prefect.kill()
    asked = time.monotonic()
    world.end()
    assert time.monotonic() - asked < STOPS
    last = world.attempt()
    assert last is not None
    assert (last.run, last.outcome) == (begun.run, "stopped")
    world.prefect.start()
    world.start()
    world.wait(world.retrained, "not resumed")
    world.end()

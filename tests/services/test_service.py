"""`make chaos`: a real retraining by `keyslice up`, killed at every boundary and at random moments.

After each kill the next run completes by itself, with the same files bit for bit as an undisturbed
one: no exam lost, no stage done twice that was complete, no process left behind.
KEYSLICE_CHAOS_SEED and KEYSLICE_CHAOS_KILLS choose other moments, and how many.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from keyslice.provenance import events
from tests.servers.process import free_port
from tests.services.world import BOUNDARIES, World, run, told

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes hours: make chaos"),
    pytest.mark.timeout(1800),
]
SEED = int(os.environ.get("KEYSLICE_CHAOS_SEED", "0"))
KILLS = int(os.environ.get("KEYSLICE_CHAOS_KILLS", "30"))
TARGETS = ("flow", "stage", "server", "all")


def _kill(world: World, target: str) -> None:
    last = world.attempt()
    flow = (last.process or {}).get("pid") if last is not None and not last.ended else None
    for process in world.processes():
        try:
            words = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        wanted = {
            "flow": process.pid == flow,
            "stage": "stage" in words or "dvc" in words,
            "server": "prefect" in words and "start" in words,
            "all": True,
        }
        if wanted[target]:
            process.kill()


@pytest.fixture(scope="module")
def world(clone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    found = World(home / "workspace")
    ports = {"prefect_port": free_port(), "mlflow_port": free_port()}
    found.make(clone({}), {"url": str(home / "far")}, {"service": ports})
    yield found
    found.kill()


@pytest.fixture(scope="module")
def undisturbed(world: World) -> dict[str, str]:
    """What a run that nothing disturbs leaves."""
    world.restore()
    world.start()
    world.wait(world.retrained, "no retraining")
    world.end()
    return world.reference()


@contextmanager
def _killed_when(world: World, target: str, moment: Callable[[], bool]) -> Iterator[None]:
    world.restore()
    world.start()
    world.wait(moment, "the moment did not come")
    _kill(world, target)
    yield
    if target == "all":
        world.start()


def _completes(world: World, undisturbed: dict[str, str], target: str, moment: Any) -> None:
    with _killed_when(world, target, moment):
        done, runs = world.complete(), {}
        for stage in done:
            runs[stage] = world.runs_of(stage)

    def current() -> bool:
        last = world.attempt()
        ended = last is not None and last.outcome in ("retrained", "nothing new", "failed")
        return bool(ended) and told(world, events.GATE_EVALUATED)()

    world.wait(current, f"not resumed after {target}")
    last = world.attempt()
    assert last is not None
    if last.outcome == "failed":  # a stage that is killed has failed: the next night makes it good
        world.keyslice("retrain", "scans")
    world.end()
    assert world.files() == undisturbed
    assert {stage: world.runs_of(stage) for stage in done} == runs
    assert world.keyslice("retrain", "scans").startswith("Nothing new")
    assert json.loads(world.keyslice("ledger", "verify", "--json"))["intact"]
    run(world.root, "git", "fsck", "--strict")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kill_at_a_boundary_is_made_good(
    world: World, undisturbed: dict[str, str], boundary: str, target: str
) -> None:
    _completes(world, undisturbed, target, BOUNDARIES[boundary](world))


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_moment_is_made_good(
    world: World, undisturbed: dict[str, str], number: int
) -> None:
    draw = random.Random(f"{SEED} {number}")
    target, seconds = draw.choice(TARGETS), draw.uniform(0, 45)
    begun = BOUNDARIES["the attempt is noted"](world)

    def moment() -> bool:
        if begun():
            time.sleep(seconds)
            return True
        return False

    _completes(world, undisturbed, target, moment)

"""`make chaos`: a real retraining by `keyslice up`, killed at every boundary and at random moments.

After each kill the next run completes by itself, with the same files bit for bit as an undisturbed
one: no exam lost, no stage done twice that was complete, no process left behind.
KEYSLICE_CHAOS_SEED and KEYSLICE_CHAOS_KILLS choose other moments, and how many.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyslice.provenance import events
from tests.servers.process import free_port
from tests.services.world import BOUNDARIES, TARGETS, World, run, told

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes hours: make chaos"),
    pytest.mark.timeout(1800),
]
SEED = int(os.environ.get("KEYSLICE_CHAOS_SEED", "0"))
KILLS = int(os.environ.get("KEYSLICE_CHAOS_KILLS", "30"))
DRAWS = 5
"""Of a moment, at which there may be nothing to kill."""
AT_WORK = (
    "the version is recorded",
    "exams are prepared",
    "a training has begun",
    "a variant is trained",
    "a variant is evaluated",
    "variants are compared",
)
"""Boundaries at which DVC is: it has just written what tells of them. At the others the flow itself
is at work, which `flow` kills, and DVC and its stages cannot be hit."""
PLACES = [
    (boundary, target)
    for boundary in BOUNDARIES
    for target in TARGETS
    if target != "stage" or boundary in AT_WORK
]


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


def _killed(world: World, target: str, moment: Callable[[], bool]) -> int:
    """How many processes were."""
    world.restore()
    world.start()
    world.wait(moment, "the moment did not come")
    return world.kill(target)


def _completes(world: World, undisturbed: dict[str, str], target: str) -> None:
    """After a kill; what was complete before it is not done again."""
    done, runs = world.complete(), {}
    for stage in done:
        runs[stage] = world.runs_of(stage)
    if target == "all":
        world.start()

    def current() -> bool:
        last = world.attempt()
        ended = last is not None and last.outcome in ("retrained", "nothing new", "failed")
        return bool(ended) and told(world, events.GATE_EVALUATED)()

    world.wait(current, f"not resumed after {target}")
    last = world.attempt()
    assert last is not None
    if last.outcome == "failed":
        assert target == "stage"  # which has failed, then: the next night makes it good
        world.keyslice("retrain", "scans")
    world.end()
    assert world.files() == undisturbed
    assert {stage: world.runs_of(stage) for stage in done} == runs
    assert world.keyslice("retrain", "scans").startswith("Nothing new")
    assert json.loads(world.keyslice("ledger", "verify", "--json"))["intact"]
    run(world.root, "git", "fsck", "--strict")


@pytest.mark.parametrize(("boundary", "target"), PLACES)
def test_a_kill_at_a_boundary_is_made_good(
    world: World, undisturbed: dict[str, str], boundary: str, target: str
) -> None:
    assert _killed(world, target, BOUNDARIES[boundary](world)) > 0
    _completes(world, undisturbed, target)


@pytest.fixture(scope="module")
def kills() -> Iterator[Counter[str]]:
    """Those at random moments, by what they hit; told in the end."""
    counted: Counter[str] = Counter()
    yield counted
    hits = ", ".join(f"{counted[target]} {target}" for target in TARGETS)
    missed = f"{counted['nothing']} others hit nothing and were drawn anew"
    sys.stdout.write(f"kills at random moments: {hits}; {missed}\n")


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_moment_is_made_good(
    world: World, undisturbed: dict[str, str], kills: Counter[str], number: int
) -> None:
    draw = random.Random(f"{SEED} {number}")
    for _ in range(DRAWS):
        target, seconds = draw.choice(TARGETS), draw.uniform(0, 45)
        begun = BOUNDARIES["the attempt is noted"](world)

        def moment(seconds: float = seconds, begun: Callable[[], bool] = begun) -> bool:
            if begun():
                time.sleep(seconds)
                return True
            return False

        killed = _killed(world, target, moment)
        sys.stdout.write(f"{target} after {seconds:.1f} s: {killed} processes\n")
        kills[target if killed else "nothing"] += 1
        _completes(world, undisturbed, target)
        if killed:
            return
    raise AssertionError(f"{DRAWS} kills in a row hit nothing")

"""`make chaos`: a real retraining by `keyslice up`, killed at every boundary and at random moments.

After each kill the next run completes by itself, with the same files bit for bit as an undisturbed
one: no exam lost, no stage done twice that was complete, no process left behind.
KEYSLICE_CHAOS_SEED and KEYSLICE_CHAOS_KILLS choose other moments, and how many.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows import attempts
from keyslice.config import Workspace
from keyslice.provenance import events, ledger
from keyslice.versioning import lock
from tests import scans
from tests.scans import PARAMS, write_exams
from tests.servers.process import free_port
from tests.services import installation

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes hours: make chaos"),
    pytest.mark.timeout(1800),
]
PATIENCE = 600.0
SEED = int(os.environ.get("KEYSLICE_CHAOS_SEED", "0"))
KILLS = int(os.environ.get("KEYSLICE_CHAOS_KILLS", "30"))
TARGETS = ("flow", "stage", "server", "all")
MADE = ("exams", "prepared", "models", "results", "comparisons")
STAGES = ("prepare@scans", "train@scans-das", "evaluate@scans-full", "compare@scans")


def _run(root: Path, *command: str) -> str:
    done = scans.run(root, list(command))
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _keyslice(root: Path, *arguments: str) -> str:
    return _run(root, sys.executable, "-P", "-m", "keyslice.cli", *arguments)


def _wait(condition: Callable[[], Any], what: str, world: "World") -> Any:
    return installation.wait(condition, what, world.log, seconds=PATIENCE, poll=0.005)


class World:
    """One place, restored before each kill: what MLflow records are absolute paths."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, Workspace(root)
        self.kept = root.with_name("kept")
        self.log = root.with_name("up.log")

    def keep(self) -> None:
        shutil.copytree(self.root, self.kept, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        _run(self.root.parent, "cp", "-a", str(self.kept), str(self.root))
        self.log.unlink(missing_ok=True)

    def start(self) -> None:
        installation.start(self.root, self.log)

    def processes(self) -> list[psutil.Process]:
        return installation.processes(self.root)

    def kill(self, target: str) -> None:
        last = attempts.last(self.workspace, "scans")
        flow = (last.process or {}).get("pid") if last is not None and not last.ended else None
        for process in self.processes():
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

    def end(self) -> None:
        if any(one.cmdline()[-1:] == ["up"] for one in self.processes()):
            _keyslice(self.root, "down")
        left = [" ".join(one.cmdline()) for one in self.processes()]
        assert left == []

    def files(self) -> dict[str, str]:
        """SHA-256 of all that a retraining makes, and what DVC says of it."""
        found = {}
        for folder in MADE:
            for file in sorted((self.root / "data" / folder).rglob("*")):
                if file.is_file():
                    name = str(file.relative_to(self.root))
                    found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        found["dvc.lock"] = (self.root / "dvc.lock").read_text()
        return found

    def complete(self) -> set[str]:
        """The stages that dvc.lock knows with the results of an undisturbed run."""
        known, then = lock.entries(self.workspace), lock.entries(Workspace(self.reference))
        return {name for name in then if known.get(name) == then[name]}

    def runs_of(self, stage: str) -> int:
        log = self.workspace.state / "logs" / f"{stage}.log"
        return log.read_text().count("Running stage") if log.is_file() else 0

    @property
    def reference(self) -> Path:
        """An undisturbed run's place, for its dvc.lock."""
        return self.root.with_name("reference")


@pytest.fixture(scope="module")
def world(clone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    root = home / "workspace"
    service = {
        "retrain": {"quiet_minutes": 0.05, "watch_seconds": 1, "attempts": 100},
        "versioning": {"commit": True, "push": ["far"]},
        "service": {"prefect_port": free_port(), "mlflow_port": free_port()},
    }
    shutil.move(clone(PARAMS | service), root)
    write_exams(root / "data" / "inbox" / "scans", range(24))
    dvc = (sys.executable, "-m", "dvc")
    _run(root, "git", "init", "-q")
    _run(root, *dvc, "init", "-q")
    _run(root, *dvc, "remote", "add", "far", str(home / "far"))
    _run(root, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "settings")
    _keyslice(root, "retrain", "scans")
    write_exams(root / "data" / "inbox" / "scans", range(24, 28))
    found = World(root)
    found.keep()
    yield found
    found.kill("all")


@pytest.fixture(scope="module")
def undisturbed(world: World) -> dict[str, str]:
    """What a run that nothing disturbs leaves."""
    world.restore()
    world.start()
    _wait(lambda: _retrained(world), "no retraining", world)
    world.end()
    shutil.copytree(world.root, world.reference, symlinks=True)
    return world.files()


def _retrained(world: World) -> bool:
    last = attempts.last(world.workspace, "scans")
    return last is not None and last.outcome == "retrained"


def _other(world: World, *path: str) -> Callable[[], bool]:
    """Whether a file is not as it was before the run."""

    def told() -> bool:
        now, then = world.root.joinpath(*path), world.kept.joinpath(*path)
        return now.is_file() and (not then.is_file() or now.read_bytes() != then.read_bytes())

    return told


def _locked(world: World, stage: str) -> Callable[[], bool]:
    def told() -> bool:
        text = (world.root / "dvc.lock").read_text()
        try:
            now = (yaml.safe_load(text) or {}).get("stages", {}).get(stage)
        except yaml.YAMLError:  # half-written
            return False
        return now is not None and now != lock.entries(Workspace(world.kept)).get(stage)

    return told


def _told(world: World, action: str) -> Callable[[], bool]:
    def count(root: Path) -> int:
        return sum(event.action == action for event in ledger.read(Workspace(root)))

    return lambda: count(world.root) > count(world.kept)


BOUNDARIES: dict[str, Callable[[World], Callable[[], bool]]] = {
    "the attempt is noted": lambda w: _other(w, "state", "service", "scans.json"),
    "the manifest is written": lambda w: _other(w, "data", "exams", "scans", "manifest.parquet"),
    "the version is recorded": lambda w: _other(w, "data", "exams", "scans.dvc"),
    "exams are prepared": lambda w: _locked(w, "prepare@scans"),
    "the plan is fixed": lambda w: _told(w, events.RUN_STARTED),
    "a training has begun": lambda w: lambda: w.runs_of("train@scans-das") > 1,
    "a variant is trained": lambda w: _locked(w, "train@scans-das"),
    "a variant is evaluated": lambda w: _locked(w, "evaluate@scans-full"),
    "variants are compared": lambda w: _locked(w, "compare@scans"),
    "the version is registered": lambda w: _told(w, events.MODEL_REGISTERED),
    "the registration is noted": lambda w: _other(w, "state", "retrained", "scans.json"),
    "the gate has been run": lambda w: _told(w, events.GATE_EVALUATED),
    "the run is committed": lambda w: lambda: _head(w.root) != _head(w.kept),
    "the run is pushed": lambda w: _other(w, "state", "pushed", "scans.json"),
}


def _head(root: Path) -> str:
    return _run(root, "git", "rev-parse", "HEAD")


@contextmanager
def _killed_when(world: World, target: str, moment: Callable[[], bool]) -> Iterator[None]:
    world.restore()
    world.start()
    _wait(moment, "the moment did not come", world)
    world.kill(target)
    yield
    if target == "all":
        world.start()


def _completes(world: World, undisturbed: dict[str, str], target: str, moment: Any) -> None:
    with _killed_when(world, target, moment):
        done, runs = world.complete(), {}
        for stage in done:
            runs[stage] = world.runs_of(stage)

    def current() -> bool:
        last = attempts.last(world.workspace, "scans")
        ended = last is not None and last.outcome in ("retrained", "nothing new", "failed")
        return bool(ended) and _told(world, events.GATE_EVALUATED)()

    _wait(current, f"not resumed after {target}", world)
    last = attempts.last(world.workspace, "scans")
    assert last is not None
    if last.outcome == "failed":  # a stage that is killed has failed: the next night makes it good
        _keyslice(world.root, "retrain", "scans")
    world.end()
    assert world.files() == undisturbed
    assert {stage: world.runs_of(stage) for stage in done} == runs
    assert _keyslice(world.root, "retrain", "scans").startswith("Nothing new")
    assert json.loads(_keyslice(world.root, "ledger", "verify", "--json"))["intact"]
    _run(world.root, "git", "fsck", "--strict")


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

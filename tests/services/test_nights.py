"""`make chaos`: a day of one-minute nights, with exams that arrive at moments of their own.

Retrainings take most of a minute, so some arrivals fall into one, and some nights come late.
KEYSLICE_CHAOS_SEED chooses other moments, KEYSLICE_CHAOS_NIGHTS another number of nights.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows import attempts
from keyslice.config import Workspace
from keyslice.provenance import events, ledger
from tests.scans import PARAMS, keyslice, run, write_exams
from tests.servers.process import free_port
from tests.services import installation

NIGHTS = int(os.environ.get("KEYSLICE_CHAOS_NIGHTS", "24"))
SEED = int(os.environ.get("KEYSLICE_CHAOS_SEED", "0"))
pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes half an hour: make chaos"),
    pytest.mark.timeout(120 * NIGHTS + 1200),
]
BEGIN, BATCH = 24, 2
"""Exams that are there at first, and that arrive at once."""
PORT = free_port()


@pytest.fixture
def workspace(clone: Callable[..., Path]) -> Workspace:
    retrain = {
        "schedule": {"every_minutes": 1},
        "quiet_minutes": 0.05,
        "watch_seconds": 1,
    }
    ports = {"prefect_port": PORT, "mlflow_port": free_port()}
    root = clone(PARAMS | {"retrain": retrain, "service": ports})
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        assert run(root, command).returncode == 0
    write_exams(root / "data" / "inbox" / "scans", range(BEGIN))
    return Workspace(root)


@pytest.fixture
def log(workspace: Workspace, tmp_path: Path) -> Iterator[Path]:
    """Of `keyslice up`."""
    log = tmp_path / "up.log"
    installation.start(workspace.root, log)
    yield log
    for left in installation.processes(workspace.root):
        left.kill()


def nights() -> list[dict[str, Any]]:
    """The runs that the schedule has begun, in the order of their times."""
    found = {
        "flow_runs": {
            "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
            "tags": {"all_": ["auto-scheduled"]},
        }
    }
    answer = httpx.post(f"http://127.0.0.1:{PORT}/api/flow_runs/filter", json=found, timeout=60)
    return sorted(answer.raise_for_status().json(), key=lambda one: one["expected_start_time"])


def test_each_night_comes_once_and_each_arrival_is_retrained_on_once(
    workspace: Workspace, log: Path
) -> None:
    def idle() -> bool:
        last = attempts.last(workspace, "scans")
        return last is not None and last.ended is not None

    draw = random.Random(f"{SEED} nights")
    moments = sorted(draw.uniform(0.5, NIGHTS - 2) for _ in range(NIGHTS // 3))
    installation.wait(idle, "no first night", log, seconds=600)
    begun, exams = time.monotonic(), BEGIN
    for moment in moments:
        time.sleep(max(0.0, begun + 60 * moment - time.monotonic()))
        write_exams(workspace.inbox("scans"), range(exams, exams + BATCH))
        exams += BATCH
    installation.wait(
        lambda: len(nights()) >= NIGHTS and idle(), "nights", log, seconds=60 * NIGHTS + 900, poll=5
    )
    found = nights()
    assert keyslice(workspace.root, "down").returncode == 0
    assert installation.processes(workspace.root) == []

    assert {one["state_type"] for one in found} == {"COMPLETED"}
    times = [datetime.fromisoformat(one["expected_start_time"]) for one in found]
    assert {later - one for one, later in pairwise(times)} == {timedelta(minutes=1)}

    told = ledger.read(workspace)
    versions = [one.payload for one in told if one.action == events.DATASET_VERSIONED]
    models = [one.payload for one in told if one.action == events.MODEL_REGISTERED]
    assert [one["dataset_version"] for one in models] == [one["version"] for one in versions]
    counts = [one["exams"] for one in versions]
    assert counts == sorted(set(counts))
    assert counts[-1] == exams
    assert len(models) <= 1 + len(moments)
    assert keyslice(workspace.root, "retrain", "scans").stdout.startswith("Nothing new")
    verified = keyslice(workspace.root, "ledger", "verify", "--json")
    assert json.loads(verified.stdout)["intact"]
    sys.stdout.write(
        f"{len(found)} nights, {len(moments)} arrivals of {BATCH} exams, {len(models)} "
        "retrainings\n"
    )

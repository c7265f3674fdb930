"""`keyslice up` as a whole, once: real servers, a schedule that fires, an arrival, a kill, the end.

Its retrainings fail at once, on an inbox with too few exams: what matters is that they are asked
for. test_service.py (`make chaos`) retrains for real.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import attempts
from keyslice.config import Workspace
from tests.servers.process import answers, free_port

PATIENCE = 150.0


def _wait(condition: Callable[[], Any], what: str, log: Path) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()}"
        time.sleep(0.1)
    return found


def _environment() -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    return own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _keyslice(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "keyslice.cli", *arguments],
        cwd=root,
        env=_environment(),
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def workspace(clone: Callable[..., Path]) -> Workspace:
    dataset = {"source": "folder", "identifiers": "public", "classes": ["dark", "bright"]}
    root = clone(
        {
            "datasets": {"scans": dataset},
            "variants": {"das": {"sampler": "das", "keep": 0.5}},
            **{name: {} for name in ("prepare", "backbone", "model", "train", "evaluate")},
            "compare": {"references": ["das"]},
            "retrain": {
                # As often as suits a test: seconds.
                "schedule": {"every_minutes": 0.25},
                "quiet_minutes": 0.01,
                "watch_seconds": 0.5,
            },
            "service": {"prefect_port": free_port(), "mlflow_port": free_port()},
        }
    )
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    inbox = root / "data" / "inbox" / "scans"
    inbox.mkdir(parents=True)
    (inbox / "labels.csv").write_text("file,patient_id,label\n")
    return Workspace(root)


@pytest.fixture
def up(workspace: Workspace) -> Iterator[Path]:
    """Its output."""
    log = workspace.root / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keyslice.cli", "up"],
            cwd=workspace.root,
            env=_environment(),
            stdout=output,
            stderr=output,
        )
        yield log
        process.kill()
        process.wait()
    for left in _processes(workspace):
        left.kill()


def _processes(workspace: Workspace) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if process.info["cwd"] == str(workspace.root) and not ended:
            found.append(process)
    return found


@pytest.mark.timeout(600)
def test_it_serves_schedules_and_arrivals_through_a_kill_and_ends_cleanly(
    workspace: Workspace, up: Path
) -> None:
    def attempted(why: str, since: float = 0) -> attempts.Attempt | None:
        last = attempts.last(workspace, "scans")
        fits = last is not None and last.ended and last.begun.timestamp() > since
        return last if fits and last.why.startswith(why) else None

    scheduled = _wait(lambda: attempted("schedule"), "the schedule did not fire", up)
    assert scheduled.outcome == "failed"  # for want of exams
    text = up.read_text()
    pages = [word for word in text.split() if word.startswith("http://127.0.0.1:")]
    assert len(pages) == 2
    assert all(answers(page) for page in pages)

    second = _keyslice(workspace.root, "up")
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "is running already" in second.stderr

    inbox = workspace.inbox("scans")
    (inbox / "a.npz").write_bytes(b"no exam, but a file with a label")
    (inbox / "labels.csv").write_text("file,patient_id,label\na.npz,1,dark\n")
    _wait(lambda: attempted("arrival: 1 new exam"), "the arrival was not noticed", up)

    [serving] = [one for one in _processes(workspace) if one.cmdline()[-1:] == ["serve"]]
    serving.kill()
    killed = time.time()
    _wait(lambda: attempted("schedule", killed), "no schedule after the kill", up)

    down = _keyslice(workspace.root, "down")
    assert (down.returncode, down.stdout) == (0, "ended\n")
    assert _processes(workspace) == []
    assert "all of them have ended" in up.read_text()
    assert _keyslice(workspace.root, "down").returncode == 2

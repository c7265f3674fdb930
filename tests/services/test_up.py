"""`keyslice up` as a whole, once: real servers, a schedule that fires, an arrival, a kill, the end.

Its retrainings fail at once, on an inbox with too few exams: what matters is that they are asked
for. test_service.py (`make chaos`) retrains for real.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from flows import attempts
from keyslice.config import Workspace, load
from tests.scans import keyslice
from tests.servers.process import answers, free_port
from tests.services.installation import processes, start, wait

RETRAIN = "retrain:\n  schedule: "
_wait = partial(wait, seconds=150)


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
                # As short as suits a test: seconds.
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
    process = start(workspace.root, log)
    yield log
    process.kill()
    process.wait()
    for left in processes(workspace.root):
        left.kill()


def _scheduled(workspace: Workspace) -> int:
    """How many runs Prefect's schedule has in store."""
    port = load(workspace.params).service.prefect_port
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    url = f"http://127.0.0.1:{port}/api/flow_runs/count"
    return httpx.post(url, json=waiting, timeout=60).raise_for_status().json()


@pytest.mark.timeout(600)
def test_it_serves_schedules_and_arrivals_through_a_kill_and_ends_cleanly(
    workspace: Workspace, up: Path
) -> None:
    def attempted(why: str, since: float = 0) -> attempts.Attempt | None:
        last = attempts.last(workspace, "scans")
        fits = last is not None and last.ended and last.begun.timestamp() > since
        return last if fits and last.why.startswith(why) else None

    _wait(lambda: "serving scans" in up.read_text(), "does not serve", up)
    settings = workspace.params.read_text()
    for minutes, said in (
        (-1, "until it is mended"),
        (0.25, "params.yaml has changed"),
    ):
        changed = settings.replace("retrain:\n", f"{RETRAIN}{{every_minutes: {minutes}}}\n")
        workspace.params.write_text(changed)
        _wait(lambda said=said: said in up.read_text(), "new settings were not noticed", up)
    scheduled = _wait(lambda: attempted("schedule"), "the schedule did not fire", up)
    assert scheduled.outcome == "failed"  # for want of exams
    text = up.read_text()
    pages = [word for word in text.split() if word.startswith("http://127.0.0.1:")]
    assert len(pages) == 2
    assert all(answers(page) for page in pages)
    mlflow = f"http://127.0.0.1:{load(workspace.params).service.mlflow_port}"
    assistant = httpx.get(f"{mlflow}/ajax-api/3.0/mlflow/assistant/config", timeout=60)
    assert assistant.status_code == 404  # it would run commands for whoever asks

    api = f"http://127.0.0.1:{load(workspace.params).service.prefect_port}/api"
    for sent in ({"Origin": "https://elsewhere.example"}, {"Host": "elsewhere.example"}):
        planted = httpx.post(f"{api}/flows/", content=b'{"name": "planted"}', headers=sent)
        assert planted.status_code == 403
        assert "Access-Control-Allow-Origin" not in planted.headers

    second = keyslice(workspace.root, "up")
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "is running already" in second.stderr

    another = keyslice(workspace.root, "serve", PREFECT_API_URL=api)
    assert (another.returncode, another.stderr.count("\n")) == (2, 1)
    assert "keyslice serve: is running already" in another.stderr
    service = json.loads(keyslice(workspace.root, "status", "--json").stdout)["service"]
    assert (service["up"], service["serve"]) == (True, True)
    assert {name: one["health"] for name, one in service["servers"].items()} == {
        "Prefect": "well",
        "MLflow": "well",
    }

    workspace.params.write_text(settings)  # no schedule
    _wait(lambda: _scheduled(workspace) == 0, "runs of a schedule that is no more", up)

    inbox = workspace.inbox("scans")
    (inbox / "a.npz").write_bytes(b"no exam, but a file with a label")
    (inbox / "labels.csv").write_text("file,patient_id,label\na.npz,1,dark\n")
    _wait(lambda: attempted("arrival: 1 new exam"), "the arrival was not noticed", up)

    [serving] = [one for one in processes(workspace.root) if one.cmdline()[-1:] == ["serve"]]
    serving.kill()
    killed = time.time()
    workspace.params.write_text(changed)
    _wait(lambda: attempted("schedule", killed), "no schedule after the kill", up)

    down = keyslice(workspace.root, "down")
    assert (down.returncode, down.stdout) == (0, "ended\n")
    assert processes(workspace.root) == []
    assert "all of them have ended" in up.read_text()
    assert keyslice(workspace.root, "down").returncode == 2

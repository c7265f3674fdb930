"""A retraining on Dask: workers are processes of their own, with folders of their own."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

pytest.importorskip("prefect_dask")

from flows.chain import RetrainFailed
from flows.retrain import run
from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.registry import tags
from keyslice.registry.mirror import Mirror
from keyslice.versioning.lock import entries

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes minutes; KEYSLICE_CHAOS"),
    pytest.mark.usefixtures("prefect"),
    pytest.mark.timeout(900),
]
PATIENCE = 240.0
STAGES = [f"{kind}@tiny-{name}" for kind in ("train", "evaluate") for name in ("full", "das")]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="session")
def can_hide() -> bool:
    """Whether this system lets a process have a view of the disk of its own."""
    try:
        asked = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path, address: str, can_hide: bool) -> Iterator[Start]:
    """`start("worker", STAGE_HANGS="das")`: a worker with its own folder; or the scheduler.

    A worker does not see the workspace, if the system lets it be hidden.
    """
    hide = 'mount -t tmpfs none "$0" && exec "$@"'
    hidden = ["unshare", "--mount", "sh", "-c", hide, str(tmp_path / "workspace")]
    begun: list[subprocess.Popen[bytes]] = []

    def begin(what: str, **variables: str) -> subprocess.Popen[bytes]:
        home = tmp_path / f"{what}-{len(begun)}"
        home.mkdir()
        port = address.rpartition(":")[2]
        own = {
            "scheduler": ["--host", "127.0.0.1", "--port", port, "--no-dashboard"],
            "worker": [address, "--nthreads", "1", "--no-dashboard", "--no-nanny"],
        }[what]
        process = subprocess.Popen(
            [
                *(hidden if can_hide and what == "worker" else []),
                *(sys.executable, "-m", "dask", what, *own),
            ],
            cwd=home,
            env=os.environ | {"KEYSLICE_WORKER_FOLDER": str(home / "work")} | variables,
            stdout=(home / "log").open("w"),
            stderr=subprocess.STDOUT,
        )
        begun.append(process)
        return process

    yield begin
    for process in reversed(begun):  # told twice at once, a worker may not end
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def workspace(workspace: Workspace, tmp_path: Path, address: str) -> Workspace:
    (tmp_path / "store").mkdir()
    dvc = [sys.executable, "-m", "dvc", "remote", "add", "store", str(tmp_path / "store")]
    subprocess.run(dvc, cwd=workspace.root, check=True)
    subprocess.run(["git", "add", "."], cwd=workspace.root, check=True)
    with workspace.params.open("a") as params:
        params.write(f"run: {{engine: dask, scheduler: '{address}', remote: store}}\n")
    return workspace


def quiet() -> Console:
    return Console(file=Path(os.devnull).open("w"))


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def hanging(worker: Path) -> list[int]:
    """The processes of the stage that hangs on a worker, as soon as it does."""
    until(lambda: [p for p in worker.glob("work/*/*/state/hanging") if " " in p.read_text()])
    [note] = worker.glob("work/*/*/state/hanging")
    return list(map(int, note.read_text().split()))


def workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, timeout=PATIENCE, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=PATIENCE)


def test_dask_gives_the_same_files_as_threads(
    workspace: Workspace, tmp_path: Path, start: Start, address: str
) -> None:
    threads = Workspace(Path(shutil.copytree(workspace.root, tmp_path / "threads", symlinks=True)))
    text = threads.params.read_text()
    threads.params.write_text(re.sub("^run: .*\n", "", text, flags=re.MULTILINE))
    run(threads, ["tiny"], parallel=2, console=quiet())

    start("scheduler")
    start("worker"), start("worker")
    workers(address, 2)
    shown = tmp_path / "shown"
    [done] = run(workspace, ["tiny"], console=Console(file=shown.open("w"), width=200))
    assert len(entries(workspace)) == len(STAGES) + 2
    assert entries(workspace) == entries(threads)
    assert versioning.stale(workspace, ["tiny"]) == []
    assert shown.read_text().count(f"on {socket.gethostname()}") == len(STAGES)
    mirror = Mirror(workspace, "tiny")
    found = mirror.client.search_runs([mirror.experiment])
    kinds = sorted(one.data.tags[tags.KIND] for one in found)
    assert kinds == ["retraining"] + ["training"] * 4
    [one] = [one for one in found if one.data.tags.get(tags.VARIANT) == "das"][:1]
    assert len(mirror.client.get_metric_history(one.info.run_id, "train_loss")) == 3
    for folder in tmp_path.glob("worker-*/work"):
        assert [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"] == []

    [again] = run(workspace, ["tiny"], console=quiet())
    assert again == done


def test_a_killed_workers_stage_is_done_by_another_and_leaves_no_process(
    workspace: Workspace, tmp_path: Path, start: Start, address: str
) -> None:
    start("scheduler")
    bad = start("worker", STAGE_HANGS="das")
    workers(address, 1)
    found: list[int] = []

    def kill() -> None:
        found.extend(hanging(tmp_path / "worker-1"))
        start("worker")
        workers(address, 2)
        bad.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    [done] = run(workspace, ["tiny"], console=quiet())
    thread.join()
    assert done.model_version == 1
    assert versioning.stale(workspace, ["tiny"]) == []
    until(lambda: not any(_runs(pid) for pid in found))


def test_a_stage_that_fails_on_a_worker_is_told_in_its_own_words(
    workspace: Workspace, start: Start, address: str
) -> None:
    start("scheduler")
    start("worker", STAGE_FAILS="full")
    workers(address, 1)
    with pytest.raises(UserError, match=r"tiny, full: train\.learning_rate: 100 is too high"):
        run(workspace, ["tiny"], console=quiet())
    assert (workspace.results("tiny", "das") / "metrics.json").is_file()


def test_a_cancelled_flow_ends_the_stages_on_workers(
    workspace: Workspace, tmp_path: Path, start: Start, address: str
) -> None:
    start("scheduler")
    start("worker", STAGE_HANGS="full")
    workers(address, 1)
    script = (
        "import sys; from pathlib import Path; from flows.retrain import run; "
        "from tests.flows.conftest import _ingest, PASSED; import keyslice.ingest as i; "
        "i.ingest_dataset = _ingest; "
        "from keyslice.config import Workspace; run(Workspace(Path(sys.argv[1])), ['tiny'])"
    )
    from prefect.settings import PREFECT_API_URL

    own = {"PREFECT_API_URL": PREFECT_API_URL.value() or ""}
    command = [sys.executable, "-c", script, str(workspace.root)]
    flow = subprocess.Popen(command, env=os.environ | own, cwd=Path(__file__).parents[2])
    pids = hanging(tmp_path / "worker-1")
    flow.kill()  # nothing is said to anybody
    flow.wait()
    until(lambda: not any(_runs(pid) for pid in pids))


def test_a_task_whose_every_worker_dies_is_told(
    workspace: Workspace, tmp_path: Path, start: Start, address: str
) -> None:
    start("scheduler", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    bad = start("worker", STAGE_HANGS="full")
    workers(address, 1)

    def kill() -> None:
        hanging(tmp_path / "worker-1")
        start("worker")
        workers(address, 2)
        bad.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RetrainFailed, match=r"tiny, full: a task was lost on Dask: .*died"):
        run(workspace, ["tiny"], console=quiet())
    thread.join()


def test_a_scheduler_that_ends_is_told(
    workspace: Workspace, tmp_path: Path, start: Start, address: str
) -> None:
    scheduler = start("scheduler")
    start("worker", STAGE_HANGS="full")
    workers(address, 1)
    found: list[int] = []

    def kill() -> None:
        found.extend(hanging(tmp_path / "worker-1"))
        scheduler.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RetrainFailed, match="a task was lost on Dask: the scheduler"):
        run(workspace, ["tiny"], console=quiet())
    thread.join()
    until(lambda: not any(_runs(pid) for pid in found))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Programs that are kept running, on commands of the shell."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.services import supervisor
from keyslice.services.programs import SERVING, Program
from keyslice.services.supervisor import Supervisor, check_ports, healthy


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def _run(workspace: Workspace, *programs: Program) -> Iterator[list[str]]:
    told: list[str] = []
    keeper = Supervisor(workspace, programs, told.append, told.append)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        yield told
    finally:
        keeper.stop()
        thread.join(30)
        assert not thread.is_alive()


def _shell(name: str, script: str, **facts: str) -> Program:
    return Program(name, ("sh", "-c", script), **facts)  # pyright: ignore[reportArgumentType]


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


def test_one_that_ends_is_started_again_after_longer_and_longer_pauses(
    workspace: Workspace,
) -> None:
    program = _shell("Prefect", "date +%s.%N >> starts; echo why; exit 3")
    with _run(workspace, program) as told:
        _wait(lambda: len(_lines(workspace.root / "starts")) == 3)
    times = [float(line) for line in _lines(workspace.root / "starts")]
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] >= 2
    assert "Prefect ended (exit code 3), starts again in 1 s: why" in told
    assert "why" in (workspace.state / "logs" / "prefect.log").read_text()


def test_one_that_cannot_be_started_is_tried_again(workspace: Workspace) -> None:
    """As where the disk is full: there is nowhere to note its process."""
    (workspace.state / "children").parent.mkdir()
    (workspace.state / "children").write_text("no folder")
    with _run(workspace, _shell("Prefect", "touch up; sleep 1000")) as told:
        _wait(lambda: any("could not be started (" in line for line in told))
        (workspace.state / "children").unlink()
        _wait(lambda: list((workspace.state / "children").glob("[!.]*.json")))
    assert any(line.endswith("), starts again in 1 s") for line in told)


def test_whatever_goes_wrong_it_is_tried_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, failures = versioning.run, [OSError(28, "no space left"), RuntimeError("no thread left")]

    def sometimes(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return run(*arguments, **options)

    monkeypatch.setattr(versioning, "run", sometimes)
    with _run(workspace, _shell("Prefect", "touch up; sleep 1000")) as told:
        _wait((workspace.root / "up").exists)
    assert "Prefect could not be started (no space left), starts again in 1 s" in told
    assert "Prefect could not be started (no thread left), starts again in 2 s" in told


@pytest.mark.parametrize("broken", [OSError(28, "no space left"), SystemExit(1)])
def test_a_terminal_that_is_gone_ends_nothing(workspace: Workspace, broken: BaseException) -> None:
    def tell(line: str) -> None:
        raise broken

    serving = _shell(SERVING, "echo serving; sleep 0.5; date >> ends")
    keeper = Supervisor(workspace, [serving], tell, tell)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    _wait(lambda: len(_lines(workspace.root / "ends")) == 2)  # by itself, each time
    keeper.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_what_a_killed_one_leaves_does_not_keep_it_from_starting_again(
    workspace: Workspace,
) -> None:
    """A run of the serving process has its output, and hours to go."""
    script = "sleep 1000 & echo $! >> left; sleep 1000"
    with _run(workspace, _shell(SERVING, script)):
        _wait(lambda: _lines(workspace.root / "left"))
        [left] = map(int, _lines(workspace.root / "left"))
        psutil.Process(psutil.Process(left).ppid()).kill()
        _wait(lambda: len(_lines(workspace.root / "left")) == 2)
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_in_the_end_nothing_is_left_and_the_serving_process_went_first(
    workspace: Workspace,
) -> None:
    # Each leaves a child of its own; the serving one takes its time.
    server = _shell("Prefect", "trap 'echo server >> ends; exit' TERM; sleep 1000 & wait")
    serving = _shell(
        SERVING, "trap 'sleep 1; echo serving >> ends; exit' TERM; touch up; sleep 1000 & wait"
    )
    with _run(workspace, server, serving):
        _wait((workspace.root / "up").exists)
    assert _lines(workspace.root / "ends") == ["serving", "server"]
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(workspace.root)]
    assert left == []


def test_the_serving_process_starts_once_the_servers_answer(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[str] = []

    def well(program: Program) -> bool:
        answered.append(program.name)
        return len(answered) > 3

    monkeypatch.setattr(supervisor, "healthy", well)
    server = _shell("Prefect", "sleep 1000", page="http://here")
    serving = _shell(SERVING, "touch up; echo serving; sleep 1000")
    with _run(workspace, server, serving) as told:
        _wait((workspace.root / "up").exists)
        assert len(answered) == 4
        _wait(lambda: "serving" in told)
        assert told == ["Prefect answers at http://here", "serving"]


@pytest.mark.parametrize("script", ["exit 3", None])
def test_a_server_that_does_not_come_up_ends_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    monkeypatch.setattr(supervisor, "STARTUP_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "healthy", lambda _: False)
    another = _shell("Prefect", "sleep 1000")
    server = _shell("MLflow", script) if script else Program("MLflow", None, page="http://there")
    keeper = Supervisor(workspace, [server, another], print, print)
    how = r"; see state/logs/mlflow\.log$" if script else " at http://there$"
    with pytest.raises(RunError, match=rf"^MLflow did not answer within 0\.5 s{how}"):
        keeper.run()
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(workspace.root)]
    assert left == []


def test_a_server_that_runs_is_waited_for_as_it_may_be_at_its_database(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "REMINDER_SECONDS", 0.5)
    migrated = workspace.root / "migrated"
    monkeypatch.setattr(supervisor, "healthy", lambda _: migrated.exists())
    server = _shell("MLflow", "date >> starts; sleep 1000", page="http://here")
    waits = "MLflow does not answer yet; its database may be migrated; see state/logs/mlflow.log"
    with _run(workspace, server) as told:
        _wait((workspace.root / "starts").exists)
        monkeypatch.setattr(supervisor, "STARTUP_SECONDS", 0.0)
        before = told.count(waits)
        _wait(lambda: told.count(waits) > before + 1)
        migrated.touch()
        _wait(lambda: "MLflow answers at http://here" in told)
    assert len(_lines(workspace.root / "starts")) == 1


def test_a_port_that_is_taken_is_found_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        program = Program("MLflow", ("true",), port=port)
        with pytest.raises(UserError, match=rf"service\.mlflow_port: 127\.0\.0\.1:{port}"):
            check_ports([program], "127.0.0.1")
    check_ports([program], "127.0.0.1")


def test_health_is_asked_of_those_that_have_an_address_for_it() -> None:
    assert not healthy(Program("MLflow", None, health="http://127.0.0.1:9/health"))
    assert healthy(Program(SERVING, (sys.executable,)))

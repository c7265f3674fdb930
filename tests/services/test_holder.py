"""Who runs `keyslice up` and `keyslice serve`, and what `down` makes of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.console import serving
from keyslice.errors import UserError
from keyslice.services.holder import holder, only_one
from tests.scans import keyslice
from tests.services.installation import processes


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def _held(workspace: Workspace, command: str):
    assert command in ("up", "serve")
    return only_one(workspace, command, rule="one of them", remedy="end it")


def test_there_is_one_and_its_note_goes_with_it(workspace: Workspace) -> None:
    with _held(workspace, "serve"):
        found = holder(workspace, "serve")
        assert found is not None
        assert found.process.pid == os.getpid()
        assert holder(workspace, "up") is None
        with (
            pytest.raises(UserError, match="keyslice serve: is running already; one of them"),
            _held(workspace, "serve"),
        ):
            pass
        assert holder(workspace, "serve") is not None
    assert holder(workspace, "serve") is None


def test_up_does_not_begin_beside_a_serving_process(workspace: Workspace) -> None:
    with (
        _held(workspace, "serve"),
        pytest.raises(UserError, match="keyslice serve runs already"),
    ):
        serving.up(workspace, None)  # pyright: ignore[reportArgumentType]
    assert holder(workspace, "up") is None


UP = """
import os, sys, threading
from pathlib import Path
from keyslice import versioning
def run(*command):
    versioning.run(command, cwd=Path.cwd(), on_line=lambda line: print(line, flush=True))
threading.Thread(target=run, args=("sh", "-c", "trap 'echo server >> ends; exit' TERM; "
    "echo up; sleep 600 & wait")).start()
run(sys.executable, "-c", sys.argv[1])
"""
SERVE = """
import signal, sys, time
from pathlib import Path
from keyslice.config import Workspace
from keyslice.services.holder import only_one
def end(*_):
    time.sleep(0.5)
    Path("ends").open("a").write("serving\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
with only_one(Workspace(Path.cwd()), "serve", rule="", remedy=""):
    print("up", flush=True)
    time.sleep(600)
"""


@contextmanager
def _killed(workspace: Workspace) -> Iterator[None]:
    """As `keyslice up` leaves it that was killed with -9."""
    command = [sys.executable, "-c", UP, SERVE]
    with subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert [up.stdout.readline(), up.stdout.readline()] == ["up\n", "up\n"]
        up.kill()
    try:
        yield
    finally:
        for left in processes(workspace.root):
            left.kill()


def test_down_ends_what_a_killed_one_left_and_the_serving_process_first(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with _killed(workspace):
        assert len(processes(workspace.root)) > 2
        serving.down(workspace)
        assert processes(workspace.root) == []
    assert (workspace.root / "ends").read_text() == "serving\nserver\n"
    assert "it had been killed" in capsys.readouterr().out
    with pytest.raises(UserError, match="keyslice up does not run here"):
        serving.down(workspace)


def test_down_ends_it_whatever_the_settings_are_like(workspace: Workspace) -> None:
    workspace.params.write_text("datasets: broken")
    with _killed(workspace):
        told = keyslice(workspace.root, "down")
        assert told.returncode == 0, told.stderr
        assert processes(workspace.root) == []


def test_down_leaves_a_serving_process_alone_that_nobody_started_for_it(
    workspace: Workspace,
) -> None:
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout is not None
        assert own.stdout.readline() == "up\n"
        with pytest.raises(UserError, match="keyslice up does not run here"):
            serving.down(workspace)
        assert own.poll() is None
        own.kill()

"""The Prefect server that a command starts for itself."""

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import own_server
from keyslice.config import Workspace
from keyslice.errors import RunError

CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
COMMAND = """
import os, sys, time
from pathlib import Path
from flows.environment import SHOWN, prepare
from keyslice.config import Workspace

workspace = Workspace(Path(sys.argv[1]))
prepare(workspace)

import httpx
from flows.own_server import own_server
from prefect import flow
from prefect.settings import PREFECT_API_URL

@flow
def asked():
    ask = f"{PREFECT_API_URL.value()}/flow_runs/count"
    known = tuple(os.environ[SHOWN].split(":"))
    return [httpx.post(ask, json={}, auth=auth, timeout=60).status_code for auth in (None, known)]

with own_server(workspace):
    print(asked(), flush=True)
    time.sleep(float(sys.argv[2]))
"""


def _command(root: Path, seconds: float) -> "subprocess.Popen[str]":
    (root / "state").mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(root), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def _servers(root: Path) -> list[psutil.Process]:
    """Those of a workspace that run."""
    return [
        one
        for one in psutil.process_iter(["cmdline", "cwd"])
        if "flows.server" in (one.info["cmdline"] or ()) and one.info["cwd"] == str(root)
    ]


@CHAOS
def test_who_does_not_know_its_account_is_refused_and_it_ends_with_the_command(
    tmp_path: Path,
) -> None:
    command = _command(tmp_path, 0)
    assert command.communicate(timeout=300)[0] == "[401, 200]\n"
    assert command.returncode == 0
    assert not _servers(tmp_path)
    assert not [*(tmp_path / "state" / "children").glob("*")]


@CHAOS
def test_it_outlives_no_command_that_is_killed(tmp_path: Path) -> None:
    command = _command(tmp_path, 600)
    assert command.stdout is not None
    assert command.stdout.readline() == "[401, 200]\n"
    assert _servers(tmp_path)
    command.send_signal(signal.SIGKILL)
    command.wait()
    deadline = time.monotonic() + 60
    while _servers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _servers(tmp_path)


STUB = """
import http.server

class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_): ...

server = http.server.HTTPServer(("127.0.0.1", 0), Well)
print(f"listening on port {server.server_port}", flush=True)
server.serve_forever()
"""


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What was to be done then, of what no server knows; it is done."""
    asked: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", lambda call, *args: asked.append(partial(call, *args)))
    monkeypatch.setattr(own_server, "_pages", {})
    with temporary_settings({PREFECT_API_URL: None}):
        yield asked
        for each in asked:
            each()


def test_one_serves_all_runs_of_a_process_and_ends_with_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, at_exit: list[Callable[[], object]]
) -> None:
    monkeypatch.setattr(own_server, "COMMAND", ("-c", STUB))
    pages = set[str | None]()
    for _ in range(2):
        with own_server.own_server(workspace):
            pages.add(PREFECT_API_URL.value())
        assert PREFECT_API_URL.value() is None
    assert len(pages) == len(at_exit) == 1
    every = psutil.Process().children(recursive=True)
    leash, server = (one for one in every if STUB in one.cmdline())
    assert str(pages.pop()).split(":")[-1] == f"{server.net_connections()[0].laddr.port}/api"
    assert any(part.endswith("leash.py") for part in leash.cmdline())
    assert server.ppid() == leash.pid
    assert os.getpgid(server.pid) != os.getpgrp()  # Ctrl-C on a terminal does not reach it
    at_exit.pop()()
    with suppress(psutil.NoSuchProcess):
        assert server.status() == psutil.STATUS_ZOMBIE
    assert not [*(workspace.state / "children").glob("*")]


@pytest.mark.usefixtures("prefect")
def test_none_is_started_where_there_is_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = PREFECT_API_URL.value()
    monkeypatch.setattr(own_server, "_started", lambda _: pytest.fail("started"))
    with own_server.own_server(workspace):
        assert PREFECT_API_URL.value() == known


@pytest.mark.usefixtures("at_exit")
@pytest.mark.parametrize("begins", ["pass", "print('listening on port 1', flush=True)"])
def test_one_that_ends_is_not_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    monkeypatch.setattr(own_server, "COMMAND", ("-c", begins))
    told = "^the run's own server has ended, see state/logs/prefect-of-command.log$"
    with pytest.raises(RunError, match=told), own_server.own_server(workspace):
        pytest.fail("begun")


@pytest.mark.usefixtures("at_exit")
def test_another_that_answers_in_its_place_is_not_taken_for_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_server, "_well", lambda _: not time.sleep(1))
    monkeypatch.setattr(own_server, "COMMAND", ("-c", "print('listening on port 1', flush=True)"))
    with pytest.raises(RunError, match="has ended"), own_server.own_server(workspace):
        pytest.fail("begun")


@pytest.mark.usefixtures("at_exit")
def test_why_it_cannot_be_started_is_told(workspace: Workspace) -> None:
    (workspace.state / "logs" / own_server.LOG).mkdir(parents=True)
    with pytest.raises(IsADirectoryError), own_server.own_server(workspace):
        pytest.fail("begun")

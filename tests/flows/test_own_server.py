"""The Prefect server that a command starts for itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

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


@pytest.mark.usefixtures("prefect")
def test_none_is_started_where_there_is_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = PREFECT_API_URL.value()
    monkeypatch.setattr(own_server, "_serve", lambda *_: pytest.fail("started"))
    with own_server.own_server(workspace):
        assert PREFECT_API_URL.value() == known


def test_one_that_ends_is_not_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(PREFECT_API_URL), "value", lambda _: None)
    monkeypatch.setattr(own_server, "_serve", lambda *_: None)
    told = "^the run's own server has ended, see state/logs/prefect-of-command.log$"
    with pytest.raises(RunError, match=told), own_server.own_server(workspace):
        pytest.fail("begun")

"""Who may call the Prefect server that a command starts for itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import API, ASKED, SHOWN, prepare
from keyslice.config import Workspace

CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
FLOW = """
import os, sys
from pathlib import Path
from flows.environment import SHOWN, prepare
from keyslice.config import Workspace

prepare(Workspace(Path(sys.argv[1])))

import httpx
from prefect import flow
from prefect.server.api.server import SubprocessASGIServer

@flow
def asked():
    [server] = SubprocessASGIServer._instances.values()
    ask = f"{server.api_url}/flow_runs/count"
    known = tuple(os.environ[SHOWN].split(":"))
    return [httpx.post(ask, json={}, auth=auth, timeout=60).status_code for auth in (None, known)]

print(asked())
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (API, ASKED, SHOWN):
        monkeypatch.delenv(name, raising=False)


def _account(workspace: Workspace) -> str:
    for name in (ASKED, SHOWN):
        os.environ.pop(name, None)
    prepare(workspace)
    assert os.environ[ASKED] == os.environ[SHOWN]
    return os.environ[ASKED]


def test_each_has_an_account_of_its_own(workspace: Workspace) -> None:
    one, another = _account(workspace), _account(workspace)
    assert one != another
    assert len(one.partition(":")[2]) > 40


@pytest.mark.parametrize("name", [ASKED, SHOWN])
def test_an_account_that_is_given_is_the_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ann:hers")
    prepare(workspace)
    assert (os.environ[ASKED], os.environ[SHOWN]) == ("ann:hers", "ann:hers")


def test_a_server_that_is_named_keeps_what_it_asks_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API, "http://prefect.example:4200/api")
    prepare(workspace)
    assert ASKED not in os.environ
    assert SHOWN not in os.environ


@CHAOS
def test_who_does_not_know_it_is_refused_while_the_flow_runs(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", FLOW, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "[401, 200]\n", ended.stderr

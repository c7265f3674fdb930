"""Prefect on PostgreSQL: flows run, on a server that asks for a password, too."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.postgresql import PostgreSQL
from tests.servers.prefect import AUTHENTICATION, Prefect

pytestmark = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")

FLOW = """
from prefect import flow, task

@task(tags=["keyslice"])
def double(number):
    return 2 * number

@flow
def doubled():
    return double.map(range(3)).result()

print("doubled:", doubled())
"""
ASK = """
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    print(sorted(run.state_name for run in client.read_task_runs()))
"""


@pytest.fixture(scope="module")
def server(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    database = postgresql.url(postgresql.new(), "postgresql+asyncpg")
    new = Prefect(tmp_path_factory.mktemp("prefect"), database, AUTHENTICATION)
    with new.started():
        yield new


def run(code: str, variables: Mapping[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PREFECT_HOME": str(home)} | dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_flow_with_tagged_tasks_runs_and_its_server_may_be_killed_in_between(
    server: Prefect, tmp_path: Path
) -> None:
    first = run(FLOW, server.variables, tmp_path)
    assert "doubled: [0, 2, 4]" in first.stdout, first.stderr
    server.kill()
    server.start()
    again = run(FLOW, server.variables, tmp_path)
    assert "doubled: [0, 2, 4]" in again.stdout, again.stderr
    asked = run(ASK, server.variables, tmp_path)
    assert asked.stdout.strip() == str(["Completed"] * 6), asked.stderr


def test_who_does_not_know_the_password_runs_nothing(server: Prefect, tmp_path: Path) -> None:
    for known in ({}, {"PREFECT_API_AUTH_STRING": "admin:another-secret"}):
        ended = run(FLOW, {"PREFECT_API_URL": server.url} | known, tmp_path)
        assert ended.returncode != 0
        assert "401 Unauthorized" in ended.stderr
        assert "another-secret" not in ended.stderr

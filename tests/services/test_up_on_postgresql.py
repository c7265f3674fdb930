"""`make chaos`: `keyslice up` as a whole with its servers on PostgreSQL, retrained for real."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.postgresql import PASSWORD, USER, PostgreSQL
from tests.servers.process import free_port
from tests.services.world import BOUNDARIES, World

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes minutes: make chaos"),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def databases(postgresql: PostgreSQL) -> dict[str, str]:
    """Their names, by the server that they are for."""
    return {"prefect": postgresql.new(), "mlflow": postgresql.new()}


@pytest.fixture
def world(
    clone: Callable[..., Path],
    tmp_path: Path,
    postgresql: PostgreSQL,
    databases: dict[str, str],
) -> Iterator[World]:
    """The addresses hold no password: libpq's file has it, as docs/operations.md says."""
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{postgresql.port}:*:{USER}:{PASSWORD}\n")
    passwords.chmod(0o600)
    at = f"{USER}@127.0.0.1:{postgresql.port}"
    variables = {
        "PGPASSFILE": str(passwords),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{at}/{databases['prefect']}",
        "MLFLOW_TRACKING_URI": f"postgresql://{at}/{databases['mlflow']}",
    }
    found = World(tmp_path / "workspace", **variables)
    ports = {"prefect_port": free_port(), "mlflow_port": free_port()}
    found.make(clone({}), {"url": str(tmp_path / "far")}, {"service": ports})
    yield found
    found.kill()


def _asked(postgresql: PostgreSQL, database: str, question: str) -> list[tuple[object, ...]]:
    import psycopg2

    with closing(psycopg2.connect(postgresql.url(database))) as connection:
        cursor = connection.cursor()
        cursor.execute(question)
        return cursor.fetchall()


def test_its_servers_keep_all_in_postgresql_through_a_kill_of_everything(
    world: World, postgresql: PostgreSQL, databases: dict[str, str]
) -> None:
    world.restore()
    world.start()
    world.wait(BOUNDARIES["a training has begun"](world), "no training")
    assert world.kill("all") > 0
    world.start()
    world.wait(world.retrained, "not resumed")
    service = json.loads(world.keyslice("status", "--json"))["service"]
    health = {name: server["health"] for name, server in service["servers"].items()}
    assert health == {"Prefect": "well", "MLflow": "well"}
    world.end()

    versions = "SELECT version FROM model_versions WHERE name = 'scans' ORDER BY version"
    assert _asked(postgresql, databases["mlflow"], versions) == [(1,), (2,)]
    states = "SELECT DISTINCT state_type::text FROM flow_run WHERE state_type = 'COMPLETED'"
    assert _asked(postgresql, databases["prefect"], states) == [("COMPLETED",)]
    assert [file.name for file in world.workspace.state.rglob("*.db")] == []
    assert json.loads(world.keyslice("verify", "scans", "--json"))["sound"]

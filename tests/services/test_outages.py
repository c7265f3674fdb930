"""`make chaos`: servers of an installation are away for a while in mid-run.

A run by `keyslice serve` against servers of one's own: Prefect and MLflow on PostgreSQL, DVC's
remote over ssh. Each is killed with -9 and started again on the same data.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows import attempts
from tests.servers import postgresql
from tests.servers.mlflow import MLflow
from tests.servers.postgresql import PostgreSQL
from tests.servers.prefect import Prefect
from tests.servers.process import Server
from tests.servers.ssh import SSH
from tests.services.world import BOUNDARIES, World

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes an hour: make chaos"),
    pytest.mark.timeout(3600),
]
AWAY = 45.0
"""Seconds."""
LONG_AWAY = 120.0
"""More than a minute and a half: Prefect's client asks again after 2, 4, 8, 16, 32, 64 seconds."""
SERVERS = ("MLflow", "Prefect", "PostgreSQL", "the remote")
TRAINING, COMPARED = "a training has begun", "variants are compared"
"""In the midst of the work, and right before it is registered."""
Left = tuple[dict[str, str], set[str]]


class Installation(World):
    """A workspace whose servers are somebody else's.

    Args:
        home: a new folder.
        database: that Prefect and MLflow keep what they know in.
    """

    def __init__(self, home: Path, database: PostgreSQL) -> None:
        self._mlflow_database = database.new()
        for name in ("prefect", "mlflow", "remote"):
            (home / name).mkdir()
        self.prefect = Prefect(home / "prefect", database.url(database.new(), "postgresql+asyncpg"))
        self.mlflow = MLflow(home / "mlflow", database.url(self._mlflow_database))
        self.remote = SSH(home / "remote")
        self.database = database
        self.servers: dict[str, Server] = {
            "MLflow": self.mlflow,
            "Prefect": self.prefect,
            "PostgreSQL": database,
            "the remote": self.remote,
        }
        variables = self.prefect.variables | {"MLFLOW_TRACKING_URI": self.mlflow.url}
        super().__init__(home / "workspace", "serve", **variables)

    def keep(self) -> None:
        super().keep()
        shutil.copytree(self.remote.files, self._kept_remote)
        self.mlflow.stop()
        self._copy(self._mlflow_database, "kept")
        self.mlflow.start()

    def restore(self) -> None:
        """What MLflow and the remote know, too."""
        super().restore()
        shutil.rmtree(self.remote.files)
        shutil.copytree(self._kept_remote, self.remote.files)
        self.prefect.stop()  # see flows.serve._give: else arrivals start runs minutes later
        self.prefect.start()
        self.mlflow.stop()
        self.database.tell("postgres", f"DROP DATABASE {self._mlflow_database} WITH (FORCE)")
        self._copy("kept", self._mlflow_database)
        self.mlflow.start()

    def left(self) -> "Left":
        """What a run leaves: the files, and the names of what the remote has."""
        there = self.remote.files
        return self.files(), {str(file.relative_to(there)) for file in there.rglob("*")}

    def states(self, run: str) -> set[str]:
        """What Prefect tells of a run and of all that it has begun."""
        own = {"any_": [run]}
        [above] = self._ask("flow_runs", flow_runs={"id": own})
        below = self._ask("flow_runs", flow_runs={"parent_flow_run_id": own})
        of_any = {"any_": [run, *(one["id"] for one in below)]}
        steps = self._ask("task_runs", task_runs={"flow_run_id": of_any})
        assert len(steps) > 8
        return {one["state_type"] for one in (above, *below, *steps)}

    def message(self, run: str) -> str | None:
        """What Prefect's page says that a run ended with; it hears of it after the service."""
        [found] = self._ask("flow_runs", flow_runs={"id": {"any_": [run]}})
        return found["state"]["message"]

    def _ask(self, what: str, **which: Any) -> list[dict[str, Any]]:
        return httpx.post(f"{self.prefect.url}/{what}/filter", json=which).raise_for_status().json()

    def _copy(self, source: str, name: str) -> None:
        self.database.tell("postgres", f"CREATE DATABASE {name} TEMPLATE {source}")

    @property
    def _kept_remote(self) -> Path:
        return self.root.with_name("kept-remote")


@pytest.fixture(scope="module")
def world(
    clone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    if postgresql.commands() is None:
        pytest.skip(postgresql.MISSING)
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (keyslice[postgresql])")
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (keyslice[ssh])")
    with ExitStack() as running:
        database = running.enter_context(postgresql.running())
        found = Installation(tmp_path_factory.mktemp("world"), database)
        for name, server in found.servers.items():
            if name != "PostgreSQL":
                running.enter_context(server.started())
        running.callback(found.kill)
        found.make(clone({}), found.remote.settings("store"), {})
        yield found


@pytest.fixture(scope="module")
def undisturbed(world: Installation) -> Left:
    """What a run leaves that nothing disturbs."""
    world.restore()
    world.start()
    world.wait(world.retrained, "no retraining")
    world.end()
    world.reference()
    return world.left()


def _ended(world: Installation) -> attempts.Attempt:
    """The run that is under way, when it has ended."""
    begun = world.attempt()
    assert begun is not None
    world.wait(lambda: (world.attempt() or begun).ended, "the run did not end")
    last = world.attempt()
    assert last is not None
    assert last.run == begun.run  # the same one
    return last


@pytest.mark.parametrize(
    ("server", "moment", "seconds"),
    [
        *((server, TRAINING, AWAY) for server in SERVERS),
        *((server, COMPARED, AWAY) for server in SERVERS),
        ("Prefect", TRAINING, LONG_AWAY),
    ],
)
def test_a_run_outlives_a_server_that_is_away(
    world: Installation, undisturbed: Left, server: str, moment: str, seconds: float
) -> None:
    world.restore()
    world.start()
    world.wait(BOUNDARIES[moment](world), "the moment did not come")
    world.servers[server].kill()
    time.sleep(seconds)
    if moment == COMPARED:  # it cannot end without any of them
        assert (last := world.attempt()) is not None
        assert last.ended is None
    world.servers[server].start()
    ended = _ended(world)
    assert ended.outcome == "retrained", world.log.read_text()
    world.wait(lambda: world.states(ended.run) == {"COMPLETED"}, "Prefect tells otherwise")
    world.end()
    assert world.left() == undisturbed
    assert world.keyslice("retrain", "scans").startswith("Nothing new")


def test_an_mlflow_that_stays_away_fails_the_run_and_the_next_one_goes_on(
    world: Installation, undisturbed: Left
) -> None:
    world.restore()
    world.start(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")  # seconds in place of minutes
    world.wait(BOUNDARIES[COMPARED](world), "the moment did not come")
    world.mlflow.kill()
    ended = _ended(world)
    assert ended.outcome == "failed"
    told = f"MLflow at {world.mlflow.url} does not answer; MLFLOW_TRACKING_URI names it"
    assert told in world.wait(lambda: world.message(ended.run), "Prefect does not tell of it")
    trainings = {name: world.runs_of(f"train@scans-{name}") for name in ("full", "das")}

    again = world.ask("retrain", "scans", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    assert again.returncode == 1
    [line] = [line for line in again.stderr.splitlines() if line.startswith("failed: ")]
    assert again.stderr.endswith(f"{line}\n")
    assert told in line
    assert "Traceback" not in again.stderr

    world.mlflow.start()
    world.keyslice("retrain", "scans")
    assert {name: world.runs_of(f"train@scans-{name}") for name in trainings} == trainings
    world.end()
    assert world.left() == undisturbed
    assert world.keyslice("retrain", "scans").startswith("Nothing new")


@pytest.mark.parametrize("server", ["Prefect", "PostgreSQL"])
def test_past_its_limit_an_outage_ends_the_run_and_the_next_one_goes_on(
    world: Installation, undisturbed: Left, server: str
) -> None:
    world.restore()
    seconds = {"PREFECT_CLIENT_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    world.start(**seconds)  # in place of minutes
    world.wait(BOUNDARIES[COMPARED](world), "the moment did not come")
    world.servers[server].kill()
    assert _ended(world).outcome == "failed"
    trainings = {name: world.runs_of(f"train@scans-{name}") for name in ("full", "das")}

    again = world.ask("retrain", "scans", **seconds)
    if server == "Prefect" and again.returncode == 0:  # the run may have done all but tell of it
        assert again.stdout.startswith("Nothing new")
    else:
        [line] = [line for line in again.stderr.splitlines() if line.startswith("failed: ")]
        assert "does not answer" in line or "PREFECT_API_URL names" in line
    assert "Traceback" not in again.stderr

    world.servers[server].start()
    world.keyslice("retrain", "scans")
    assert {name: world.runs_of(f"train@scans-{name}") for name in trainings} == trainings
    world.end()
    assert world.left() == undisturbed
    assert world.keyslice("retrain", "scans").startswith("Nothing new")

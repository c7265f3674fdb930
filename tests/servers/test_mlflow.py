"""MLflow on PostgreSQL, as a database and behind a server, with passwords and without."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyslice.config import Params, Workspace
from keyslice.errors import RunError, UserError
from keyslice.registry import tags
from keyslice.registry.client import connect, experiment
from keyslice.registry.mirror import Mirror
from keyslice.registry.models import download, models
from keyslice.registry.register import register
from tests.servers.mlflow import MLflow
from tests.servers.postgresql import PostgreSQL, running

CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
PASSWORD, WRONG = "nightly-planted-secret", "another-secret"
VARIANTS = ("full", "uniform", "das")


@pytest.fixture
def database(postgresql: PostgreSQL, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one, with no server before it."""
    name = postgresql.new()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgresql.url(name))
    return name


@pytest.fixture
def server(
    postgresql: PostgreSQL, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MLflow]:
    """On a database of its own, open to everybody."""
    (tmp_path / "mlflow").mkdir()
    new = MLflow(tmp_path / "mlflow", postgresql.url(postgresql.new()))
    with new.started():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new.url)
        yield new


@pytest.fixture(scope="module")
def closed(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    """Runs and accounts in a database each; whoever calls must know a password."""
    runs, users = (postgresql.url(postgresql.new()) for _ in range(2))
    with MLflow(tmp_path_factory.mktemp("mlflow"), runs, users).started() as server:
        server.add_user("nightly", PASSWORD)
        yield server


@pytest.fixture
def caller(closed: MLflow, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> MLflow:
    """The same, and its address and an account that is not the administrator's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "nightly")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    return closed


def check_recorded(workspace: Workspace, params: Params) -> None:
    """A retraining is mirrored once, its candidate registered once, and its package is there."""
    mirror = Mirror(workspace, "tiny")
    parent = mirror.complete(mirror.begin(), VARIANTS, "c0ffee")
    runs = mirror.client.search_runs([mirror.experiment])
    assert len(runs) == 1 + 2 * len(VARIANTS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    training = next(run for run in runs if run.data.tags.get(tags.VARIANT) == "das")
    history = mirror.client.get_metric_history(training.info.run_id, "validation_auc")
    assert [point.step for point in history] == [0, 1, 2]
    again = Mirror(workspace, "tiny")
    assert again.complete(again.begin(), VARIANTS, "c0ffee") == parent
    made = {int(register(workspace, params, "tiny", parent).version) for _ in range(2)}
    [listed] = models(workspace)
    assert made == {listed.version}
    assert listed.aliases == ("challenger",)
    weights = workspace.models("tiny", "das") / "seed-1/model.safetensors"
    package = download(workspace, "tiny", "@challenger").parents[1]
    assert weights.read_bytes() in {p.read_bytes() for p in package.rglob("*.safetensors")}


def test_a_database_serves_without_a_server(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgresql.url(postgresql.new()))
    workspace = Workspace(tmp_path)
    client = connect(workspace)
    number = experiment(client, workspace, "tiny")
    run = client.create_run(number).info.run_id
    client.log_metric(run, "validation_auc", 0.5)
    client.log_text(run, "a table", "comparison.md")
    assert experiment(connect(workspace), workspace, "tiny") == number
    assert client.get_run(run).data.metrics == {"validation_auc": 0.5}
    [written] = (workspace.state / "artifacts" / "tiny").rglob("comparison.md")
    assert written.read_text() == "a table"


@CHAOS
def test_a_retraining_is_recorded_in_a_database(
    database: str, workspace: Workspace, params: Params
) -> None:
    check_recorded(workspace, params)
    assert list((workspace.state / "artifacts/tiny").rglob("comparison.md"))


@CHAOS
def test_a_retraining_is_recorded_by_a_server_which_holds_the_artifacts(
    server: MLflow, workspace: Workspace, params: Params
) -> None:
    check_recorded(workspace, params)
    assert list(server.log.parent.rglob("comparison.md"))
    assert not (workspace.state / "artifacts").exists()


@CHAOS
def test_a_retraining_is_recorded_by_a_server_that_asks_for_a_password(
    caller: MLflow, workspace: Workspace, params: Params
) -> None:
    check_recorded(workspace, params)


@CHAOS
def test_what_was_recorded_is_there_when_the_server_comes_back(
    server: MLflow, workspace: Workspace, params: Params
) -> None:
    mirror = Mirror(workspace, "tiny")
    parent = mirror.begin()
    server.kill()
    server.start()
    assert mirror.complete(parent, VARIANTS, "c0ffee") == parent
    assert Mirror(workspace, "tiny").client.get_run(parent).info.status == "FINISHED"


@CHAOS
def test_a_database_may_be_stopped_or_killed_and_serves_again_when_it_is_back(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as own:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", own.url(own.new()))
        workspace = Workspace(tmp_path)
        client = connect(workspace)
        run = client.create_run(experiment(client, workspace, "tiny")).info.run_id
        for step, end in enumerate((own.stop, own.kill)):
            client.log_metric(run, "validation_auc", 0.5, step=step)
            end()
            assert not own.healthy()
            own.start()
        history = client.get_metric_history(run, "validation_auc")
    assert [point.step for point in history] == [0, 1]


@CHAOS
@pytest.mark.parametrize("place", ["variables", "address", "nowhere"])
def test_a_server_that_does_not_know_the_password_is_told_of_in_a_line_without_it(
    caller: MLflow, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", WRONG)
    if place != "variables":
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    if place == "address":
        address = caller.url.replace("://", f"://nightly:{WRONG}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises((RunError, UserError), match=caller.url) as caught:
        connect(workspace)
    assert WRONG not in str(caught.value)
    assert "\n" not in str(caught.value)


@CHAOS  # MLflow tries a database again for 100 seconds, whatever it answered
def test_a_database_that_does_not_know_the_password_is_told_of_in_a_line_without_it(
    postgresql: PostgreSQL, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgresql.url(postgresql.new(), password=WRONG)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: .* authentication failed") as told:
        connect(workspace)
    assert WRONG not in str(told.value)
    assert "\n" not in str(told.value)


CONNECT = """
import sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from keyslice.config import Workspace
from keyslice.registry.client import connect, experiment

print("ready", flush=True)
sys.stdin.readline()
connect(Workspace(Path(sys.argv[1])))
"""
"""Waits to be told, so that both come at the same moment."""


def connect_at_once(*roots: Path) -> list[subprocess.CompletedProcess[str]]:
    """A process for each; all begin to connect when the last one is ready to."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for root in roots
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = []
    for process in processes:
        said, errors = process.communicate(timeout=100)
        ended.append(subprocess.CompletedProcess("", process.returncode, said, errors))
    return ended


@CHAOS
def test_two_processes_may_meet_an_empty_database_at_once(
    database: str, workspace: Workspace
) -> None:
    for ended in connect_at_once(workspace.root, workspace.root):
        assert ended.returncode == 0, ended.stderr


@CHAOS
def test_of_two_machines_that_meet_an_empty_database_one_succeeds_and_the_other_may_ask_again(
    database: str, tmp_path: Path
) -> None:
    codes = sorted(ended.returncode for ended in connect_at_once(tmp_path / "a", tmp_path / "b"))
    assert codes[0] == 0
    connect(Workspace(tmp_path / "b"))
    connect(Workspace(tmp_path / "a"))

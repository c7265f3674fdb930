"""An address of Prefect's that holds a password is never shown with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import cluster, retrain, serve
from keyslice.config import Workspace, load
from keyslice.errors import RunError, UserError
from keyslice.versioning import elsewhere

SECRET = "correct-horse-battery"
DEAD = f"http://ann:{SECRET}@127.0.0.1:9/api"
SHOWN = "http://127.0.0.1:9/api"
PARAMS = Path(__file__).parents[1] / "tiny_workspace" / "params.yaml"


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_API_URL", DEAD)
    with temporary_settings({PREFECT_API_URL: DEAD, PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    return Workspace(tmp_path)


def test_by_the_service(workspace: Workspace) -> None:
    with pytest.raises(RunError, match=f"server at {SHOWN} does not answer") as told:
        serve.serve(workspace, print)
    assert SECRET not in str(told.value)


def test_by_a_retraining() -> None:
    told = str(retrain._prefect_failed(RuntimeError(f"Failed to reach API at {DEAD}")))
    assert told.startswith(f"Prefect: Failed to reach API at {SHOWN}; PREFECT_API_URL names")
    assert SECRET not in told


@pytest.mark.parametrize("answer", [OSError(DEAD), (cluster.software(), "ConnectError")])
def test_of_a_worker_that_does_not_reach_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    @contextmanager
    def connected(_: str):
        yield SimpleNamespace(run=lambda *_, **__: {"tcp://worker:1": answer})

    monkeypatch.setattr(elsewhere, "check", lambda *_: None)
    monkeypatch.setattr(cluster, "connected", connected)
    with pytest.raises(UserError, match=SHOWN) as told:
        cluster.check(workspace, load(workspace.params))
    assert SECRET not in str(told.value)

"""What is asked of a Dask cluster before work begins; tests/flows/test_dask.py has real workers."""

import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("prefect_dask")

from distributed import Client, LocalCluster
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect_dask.task_runners import PrefectDaskFuture

from flows import cluster, farm, own_server, retrain
from keyslice import versioning
from keyslice.config import Params, Run, Workspace, load
from keyslice.errors import UserError
from keyslice.versioning import elsewhere
from tests.servers.receiver import Receiver


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one worker, in a thread."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as local:
        yield local.scheduler_address


@pytest.fixture(autouse=True)
def _fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "check", lambda *_: "/store")
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2.0)


def params(workspace: Workspace, address: str) -> Params:
    run = Run(engine="dask", scheduler=address, remote="store")
    return load(workspace.params).model_copy(update={"run": run})


def refused(workspace: Workspace, address: str, api: str) -> str:
    """Why the cluster is unfit; empty: it is fit."""
    with temporary_settings({PREFECT_API_URL: api}):
        try:
            cluster.check(workspace, params(workspace, address))
        except UserError as error:
            return str(error)
    return ""


def test_a_cluster_like_the_flow_that_reaches_prefects_server_is_fit(
    workspace: Workspace, address: str
) -> None:
    with Receiver() as server:
        assert refused(workspace, address, server.address) == ""


def test_a_server_that_only_the_flow_reaches_is_refused(workspace: Workspace, address: str) -> None:
    said = refused(workspace, address, "http://127.0.0.1:1/api")
    assert "does not reach Prefect's server at http://127.0.0.1:1/api: ConnectError" in said


def test_without_an_address_of_prefects_server_nothing_is_begun(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "load", lambda _: params(workspace, "tcp://127.0.0.1:1"))
    monkeypatch.setattr(own_server, "_started", lambda _: pytest.fail("started"))
    told = "^run.engine: dask: PREFECT_API_URL is not set; "
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(UserError, match=told):
        retrain.run(workspace, ["tiny"])


def test_a_scheduler_that_does_not_answer_is_named(workspace: Workspace) -> None:
    said = refused(workspace, "tcp://127.0.0.1:1", "http://127.0.0.1:1/api")
    assert said.startswith("run.scheduler: tcp://127.0.0.1:1: no Dask scheduler answers")


def test_a_scheduler_without_workers_is_refused(workspace: Workspace) -> None:
    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as local:
        said = refused(workspace, local.scheduler_address, "http://127.0.0.1:1/api")
    assert "the scheduler has no worker" in said


def test_a_worker_with_other_software_is_refused(
    workspace: Workspace, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = cluster.software()
    other = replace(own, libraries=own.libraries | {"torch": "1.0", "timm": ""})
    monkeypatch.setattr(cluster, "_look_around", lambda api: (other, ""))
    said = refused(workspace, address, "http://127.0.0.1:1/api")
    torch, timm = own.libraries["torch"], own.libraries["timm"]
    assert f"has torch 1.0, not {torch}, timm missing, not {timm}" in said
    assert own.libraries["keyslice"]
    assert own.differences(replace(own, python="3.0")) == [f"python {own.python}, not 3.0"]


def test_a_worker_without_keyslice_is_refused(
    workspace: Workspace, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(api: str) -> None:
        raise ModuleNotFoundError("No module named 'flows'")

    monkeypatch.setattr(cluster, "_look_around", fails)
    said = refused(workspace, address, "http://127.0.0.1:1/api")
    assert "cannot work for Keyslice: No module named 'flows'" in said


def test_a_stages_failure_comes_back_from_a_worker_as_it_was(tmp_path: Path) -> None:
    for error in (
        versioning.StageFailed("train@a-b", 3, "no memory"),
        versioning.dvc.Busy(tmp_path, "is busy"),
        UserError("a mistake", where="here"),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_a_workers_folder_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = SimpleNamespace(local_directory=str(tmp_path))
    monkeypatch.delenv(farm.FOLDER, raising=False)
    assert farm._folder(worker) == tmp_path / "keyslice"  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(os.environ, farm.FOLDER, "/scratch")
    assert farm._folder(worker) == Path("/scratch")  # pyright: ignore[reportArgumentType]


@pytest.fixture
def sent(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """`sent(client, seconds)`: a stage that takes `seconds` is sent; the tasks on the cluster."""

    def send(client: Client, seconds: float) -> list[Any]:
        tasks: list[Any] = []

        def submit(*_: object) -> object:
            tasks.append(client.submit(time.sleep, seconds, pure=False))
            return PrefectDaskFuture(uuid4(), tasks[-1])

        monkeypatch.setattr(farm, "carry_out", SimpleNamespace(submit=submit))
        return tasks

    def no_server(**_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(farm, "send", lambda *_: SimpleNamespace(installation="this"))
    monkeypatch.setattr(elsewhere, "restored", lambda *_: set())
    monkeypatch.setattr(farm, "get_client", no_server)
    monkeypatch.setattr(farm, "_clear_workers", lambda *_: None)
    monkeypatch.setattr(farm, "DESERTED_SECONDS", 0.3)
    monkeypatch.setattr(farm, "POLL_SECONDS", 0.05)
    return send


@pytest.mark.timeout(60)
def test_where_no_worker_is_left_the_variants_fail(
    workspace: Workspace, sent: Callable[..., list[Any]]
) -> None:
    stale = ["train@tiny-full", "train@tiny-das"]
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as local,
        Client(local.scheduler_address, set_as_default=False) as client,
    ):
        tasks = sent(client, 0)
        failed = farm.variants(str(workspace.root), "tiny", ["full", "das"], stale, "parent")
        assert {task.status for task in tasks} == {"cancelled"}  # a late worker does not begin them
    assert set(failed) == {"full", "das"}
    assert "there has been no worker for 0.005 minutes" in str(failed["das"])
    assert str(failed["das"]).endswith("; start one; what has come back is kept, run it again")


@pytest.mark.timeout(60)
def test_what_came_back_before_the_last_worker_left_is_taken_in(
    workspace: Workspace, sent: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[Any, ...]] = []
    monkeypatch.setattr(farm, "take_in", lambda *told: taken.append(told))
    stages = iter([Completed(data="trained"), None])

    def submit(*_: object) -> object:
        sent_task = client.submit(time.sleep, 0, pure=False)
        future = PrefectDaskFuture[Any](uuid4(), sent_task)
        if state := next(stages):
            future._wrapped_future = _Ended(state)  # pyright: ignore[reportAttributeAccessIssue]
        return future

    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as local,
        Client(local.scheduler_address, set_as_default=False) as client,
    ):
        sent(client, 0)
        monkeypatch.setattr(farm, "carry_out", SimpleNamespace(submit=submit))
        failed = farm.variants(str(workspace.root), "tiny", ["full"], ["train@tiny-full"], "parent")
    assert taken == [(str(workspace.root), "tiny", "full", ["trained"], "parent")]
    assert "there has been no worker" in str(failed["full"])


@dataclass
class _Ended:
    """A task of Dask's that ended while there was a worker."""

    state: Any
    status: str = "finished"

    def result(self, timeout: float | None = None) -> Any:
        return self.state


def test_a_worker_may_take_its_time(
    workspace: Workspace,
    address: str,
    sent: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(farm, "_results", lambda *_: ([], None))
    with Client(address, set_as_default=False) as client:
        tasks = sent(client, 1.0)
        failed = farm.variants(str(workspace.root), "tiny", ["full"], [], "parent")
        assert [one.status for one in tasks] == ["finished"]
    assert failed == {}

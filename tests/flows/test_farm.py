"""What is asked of a Dask cluster before work begins; tests/flows/test_dask.py has real workers."""

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("prefect_dask")

from distributed import LocalCluster
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import cluster, farm
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


def refused(workspace: Workspace, address: str, api: str | None = None) -> str:
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
    assert "PREFECT_API_URL is not set" in refused(workspace, address)
    said = refused(workspace, address, "http://127.0.0.1:1/api")
    assert "does not reach Prefect's server at http://127.0.0.1:1/api: ConnectError" in said


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

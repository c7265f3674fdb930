"""Variants of a retraining on a Dask cluster: sent there, looked after, and taken in.

Training and evaluating go to the workers; all else (exams, the key, MLflow, the ledger) stays with
the flow. See `keyslice.versioning.elsewhere` for what a worker is given and gives back.
"""

import logging
import os
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from distributed import Client, Worker, get_worker
from prefect import get_client, task
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from flows.progress import step
from flows.tasks import RETRIES, far, opened
from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.errors import RunError, UserError
from keyslice.versioning import elsewhere
from keyslice.versioning.elsewhere import Parcel, Result

FOLDER = "KEYSLICE_WORKER_FOLDER"
"""Where a worker keeps checkouts, data and checkpoints; default: in Dask's own scratch folder."""
LIBRARIES = (
    *("keyslice", "prefect", "prefect-dask", "dask", "distributed", "cloudpickle", "dvc"),
    *("torch", "torchvision", "timm", "lightning", "numpy", "pandas", "pyarrow", "scikit-learn"),
)
"""What must be the same wherever a retraining runs, for its results to be the same."""
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5
TAIL = 20
"""Last lines of a stage that failed, for its page in Prefect."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Software:
    """What a process runs."""

    python: str
    """Release, without its last number."""
    libraries: dict[str, str]
    """Version of each of LIBRARIES; empty: not installed."""

    def differences(self, other: "Software") -> list[str]:
        """`torch 2.14.0, not 2.15.0` for each that is not `other`'s."""
        here, there = ({"python": one.python} | one.libraries for one in (self, other))
        return [f"{n} {here[n] or 'missing'}, not {there[n]}" for n in here if here[n] != there[n]]


def software() -> Software:
    """Of this process."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""

    python = ".".join(platform.python_version_tuple()[:2])
    return Software(python, {name: installed(name) for name in LIBRARIES})


def check(workspace: Workspace, params: Params) -> None:
    """Whether the cluster can do the work, asked before any is begun.

    Raises:
        UserError: the scheduler does not answer or has no worker; a worker has other software or
            does not reach Prefect's server; the remote is unfit.
    """
    elsewhere.check(workspace, params.run.remote or "")
    address, api = params.run.scheduler or "", PREFECT_API_URL.value()
    if api is None:
        raise UserError(
            "PREFECT_API_URL is not set",
            where="run.engine: dask",
            rule="workers tell Prefect's server what they do; one that a run starts for itself "
            "answers nobody else",
            remedy="keyslice up, and an address of it that the workers reach",
        )
    with _connected(address) as client:
        found: Any = client.run(_look_around, api, on_error="return")
    if not found:
        raise UserError(
            "the scheduler has no worker",
            where=f"run.scheduler: {address}",
            remedy=f"dask worker {address} --nthreads 1, on each machine",
        )
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise UserError(
                f"the worker {worker} cannot work for Keyslice: {answer}",
                rule="each worker has Keyslice installed",
                remedy="install it from the same requirements.lock",
            )
        if other := answer[0].differences(software()):
            raise UserError(
                f"the worker {worker} has {', '.join(other)}",
                rule="workers have the flow's own software, or results would differ",
                remedy="install it from the same requirements.lock",
            )
        if answer[1]:
            raise UserError(
                f"the worker {worker} does not reach Prefect's server at {api}: {answer[1]}",
                where="PREFECT_API_URL",
                remedy="an address that the workers reach (service.host opens the server wider)",
            )


def variants(
    root: str, dataset: str, names: Sequence[str], stale: Sequence[str], parent: str
) -> dict[str, BaseException]:
    """Train and evaluate the variants on the cluster; what went wrong, by variant.

    Args:
        root: the workspace's folder.
        dataset: its frames are prepared.
        names: of the variants.
        stale: stages that are not up to date; of the others the results are taken as they are.
        parent: the retraining's run in MLflow.
    """
    workspace, params = opened(root)
    stages = {name: _stages(workspace, dataset, name, stale) for name in names}
    if not stages:
        return {}
    trained = [name for name, todo in stages.items() if len(todo) == 1]
    parcel, own = send(root, dataset, trained), software()
    pending: dict[str, list[Any]] = {}
    for name, todo in stages.items():
        futures: list[Any] = []
        for stage in todo:
            futures.append(carry_out.submit(parcel, stage, list(futures), own))
        pending[name] = futures
    failures: dict[str, BaseException] = {}
    with step(f"{dataset} on Dask") as shown:
        while pending:
            left = sum(not _over(one) for futures in pending.values() for one in futures)
            shown.progress(f"{left} stages to come")
            for name in [n for n, futures in pending.items() if all(map(_over, futures))]:
                try:
                    results, failed = _results(pending.pop(name))
                    if results:
                        take_in(root, dataset, name, results, parent)
                    if failed is not None:
                        failures[name] = failed
                except Exception as error:
                    failures[name] = error
            time.sleep(POLL_SECONDS)
    _clear_workers(params)
    return failures


@task(task_run_name="send {dataset}", **RETRIES)
def send(root: str, dataset: str, trained: list[str]) -> Parcel:
    """Code, settings and prepared frames to where the workers find them."""
    workspace, params = opened(root)
    with step(f"send {dataset}") as shown:
        parcel = elsewhere.pack(workspace, dataset, params.run.remote or "", trained)
        shown.outcome = f"{len(parcel.code) / 2**20:.1f} MiB of code"
        return parcel


@task(task_run_name="{stage}", **RETRIES)
def carry_out(parcel: Parcel, stage: str, before: list[Result], wanted: Software) -> Result:
    """A stage, on a worker: in its own folder, with what it was sent.

    When the flow is gone or cancelled, the stage's processes are ended; when the worker is killed,
    too.
    """
    if other := software().differences(wanted):
        raise UserError(f"{socket.gethostname()} has {', '.join(other)}")
    worker, tail = get_worker(), deque[str](maxlen=TAIL)
    with (
        versioning.children(leashed=True) as end,
        _while_wanted(worker, end),
        step(stage) as shown,
    ):

        def on_line(line: str) -> None:
            tail.append(line)
            if text := far(line):
                shown.progress(text)

        try:
            done = elsewhere.carry_out(
                parcel, stage, _folder(worker), before=before, on_line=on_line
            )
        except BaseException:
            shown.log("its last lines:\n" + "\n".join(tail))
            raise
        shown.outcome, shown.detail = done.outcome, _where(done)
        return done


@task(task_run_name="take in {variant} of {dataset}", **RETRIES)
def take_in(root: str, dataset: str, variant: str, results: list[Result], parent: str) -> None:
    """What a variant's stages left on a worker, into the workspace and to MLflow."""
    workspace, params = opened(root)
    with step(f"take in {dataset}-{variant}") as shown:
        elsewhere.take_in(workspace, results, params.run.remote or "")
        shown.detail = "; ".join(f"{one.stage}: {one.outcome}, {_where(one)}" for one in results)
        if results[-1].stage.startswith("evaluate@"):
            _mirror(workspace, dataset, variant, parent)


def _stages(workspace: Workspace, dataset: str, variant: str, stale: Sequence[str]) -> list[str]:
    """Those to be sent: what DVC's run cache has is restored here."""
    train, evaluate = (f"{kind}@{dataset}-{variant}" for kind in ("train", "evaluate"))
    if train not in stale or elsewhere.restored(workspace, dataset, variant):
        return [evaluate]
    return [train, evaluate]


def _mirror(workspace: Workspace, dataset: str, variant: str, parent: str) -> None:
    """Show the variant in MLflow at once; what cannot be shown now is at the retraining's end."""
    from keyslice.registry.mirror import Mirror

    try:
        Mirror(workspace, dataset).variant(parent, variant)
    except Exception:
        _log.info("the variant could not be shown in MLflow", exc_info=True)


def _over(future: Any) -> bool:
    return future.wrapped_future.status != "pending"


def _results(futures: Sequence[Any]) -> tuple[list[Result], BaseException | None]:
    """What stages gave back, up to the first that failed, and why that did."""
    results: list[Result] = []
    for future in futures:
        stage_over = future.wrapped_future.status
        future.wait(CONNECT_SECONDS)
        state = getattr(future, "_final_state", None)
        if state is None:
            return results, _lost(future, stage_over)
        if not state.is_completed():
            error = state.result(raise_on_failure=False)
            return results, error if isinstance(error, BaseException) else RunError(str(state))
        results.append(state.result())
    return results, None


def _lost(future: Any, status: str) -> RunError:
    """Why a task has no end, told to Prefect's server, too: its worker did not live to do so."""
    why = "the scheduler has lost it"
    if status == "error":
        why = str(future.wrapped_future.exception()).partition(". ")[0]
    told = f"a task was lost on Dask: {why}"
    try:
        with get_client(sync_client=True) as client:
            client.set_task_run_state(future.task_run_id, Crashed(message=told), force=True)
    except Exception:
        _log.info("Prefect's server could not be told", exc_info=True)
    return RunError(f"{told}; what has come back is kept, run it again")


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise UserError(
            f"no Dask scheduler answers ({type(error).__name__})",
            where=f"run.scheduler: {address}",
            remedy="start it (dask scheduler), or set run.engine to threads",
        ) from None
    with client:
        yield client


def _look_around(api: str) -> tuple[Software, str]:
    """On a worker: its software, and why Prefect's server cannot be reached (empty: it can)."""
    try:
        httpx.get(f"{api}/health", timeout=CONNECT_SECONDS)
    except httpx.HTTPError as error:
        return software(), type(error).__name__
    return software(), ""


def _clear_workers(params: Params) -> None:
    """No exam's frames stay on a worker that has nothing more to do."""
    try:
        with _connected(params.run.scheduler or "") as client:
            client.run(_clear, on_error="return")
    except UserError:
        _log.warning("the workers' folders could not be cleared", exc_info=True)


def _clear(dask_worker: Worker) -> None:
    elsewhere.clear(_folder(dask_worker))


def _folder(worker: Worker) -> Path:
    return Path(os.environ.get(FOLDER) or Path(worker.local_directory) / "keyslice")


def _where(done: Result) -> str:
    minutes, seconds = divmod(round(done.seconds), 60)
    return f"on {done.host} in {minutes}:{seconds:02d}"


@contextmanager
def _while_wanted(worker: Worker, end: Callable[[], None]) -> Iterator[None]:
    """Call `end` as soon as nobody waits for the task that runs in this thread.

    Dask cannot stop a thread, it only marks the task: so it does when the flow has cancelled it, or
    is gone.
    """
    key = worker.get_current_task()
    done, unwanted = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            found = worker.state.tasks.get(key)
            if found is None or found.state != "executing":
                unwanted.set()
                end()
                return

    thread = threading.Thread(target=watch, name=f"watch {key}", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if unwanted.is_set():  # else it would be tried again
            raise versioning.ChildrenEndedError("nobody waits for it any more") from error
        raise
    finally:
        done.set()
        thread.join()

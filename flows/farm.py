"""Variants of a retraining on a Dask cluster: sent there, looked after, and taken in.

Training and evaluating go to the workers; all else (exams, the key, MLflow, the ledger) stays with
the flow. See `keyslice.versioning.elsewhere` for what a worker is given and gives back.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Worker, get_worker
from prefect import get_client, task
from prefect.states import Crashed

from flows import cluster
from flows.cluster import Software, connected, software
from flows.progress import step
from flows.tasks import RETRIES, far, opened
from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance.installation import installation
from keyslice.versioning import elsewhere, places
from keyslice.versioning.elsewhere import Parcel, Result

FOLDER = "KEYSLICE_WORKER_FOLDER"
"""Where a worker keeps checkouts, data and checkpoints; default: in Dask's own scratch folder."""
POLL_SECONDS = 0.5
DESERTED_SECONDS = 900.0
"""Without any worker, until what is left is given up: Dask would wait for one for ever."""
TAIL = 20
"""Last lines of a stage that failed, for its page in Prefect."""

_log = logging.getLogger(__name__)


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
    if not names:
        return {}
    due = [train for name in names if (train := f"train@{dataset}-{name}") in stale]
    due = set(due) - elsewhere.restored(workspace, due)  # what DVC has is not sent
    stages = {name: _stages(dataset, name, due) for name in names}
    trained = [name for name, todo in stages.items() if len(todo) == 1]
    parcel, own = send(root, dataset, trained), software()
    pending: dict[str, list[Any]] = {}
    for name, todo in stages.items():
        futures: list[Any] = []
        for stage in todo:
            futures.append(carry_out.submit(parcel, stage, list(futures), own))
        pending[name] = futures
    failures: dict[str, BaseException] = {}
    deserted, gone = _Deserted(), ""
    with step(f"{dataset} on Dask") as shown:
        while pending:
            left = sum(not _over(one) for futures in pending.values() for one in futures)
            shown.progress(f"{left} stages to come")
            for name in [n for n, futures in pending.items() if all(map(_over, futures))]:
                try:
                    results, failed = _results(pending.pop(name), gone)
                    if results:
                        take_in(root, dataset, name, results, parent)
                    if failed is not None:
                        failures[name] = failed
                except Exception as error:  # of one variant: the others go on
                    failures[name] = error
            waiting = [one for futures in pending.values() for one in futures if not _over(one)]
            if deserted.by_now(waiting):  # what has come back is taken in, as ever
                minutes = f"{DESERTED_SECONDS / 60:g} minutes"
                gone = f"there has been no worker for {minutes} ({params.run.scheduler}); start one"
                for one in waiting:
                    one.wrapped_future.cancel()
            time.sleep(POLL_SECONDS)
    _clear_workers(params, parcel.installation)
    return failures


@task(task_run_name="send {dataset}", **RETRIES)
def send(root: str, dataset: str, trained: list[str]) -> Parcel:
    """Code, settings and prepared frames to where the workers find them."""
    workspace, params = opened(root)
    with step(f"send {dataset}") as shown:
        parcel = elsewhere.pack(
            workspace, installation(workspace), dataset, params.run.remote or "", trained
        )
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


def _stages(dataset: str, variant: str, due: Collection[str]) -> list[str]:
    """Those to be sent, in their order."""
    train, evaluate = (f"{kind}@{dataset}-{variant}" for kind in ("train", "evaluate"))
    return [train, evaluate] if train in due else [evaluate]


def _mirror(workspace: Workspace, dataset: str, variant: str, parent: str) -> None:
    """Show the variant in MLflow at once; what cannot be shown now is at the retraining's end."""
    from keyslice.registry.mirror import Mirror

    try:
        Mirror(workspace, dataset).variant(parent, variant)
    except Exception:  # whatever MLflow raises: nothing of the work is lost by it
        _log.info("the variant could not be shown in MLflow", exc_info=True)


def _over(future: Any) -> bool:
    return future.wrapped_future.status != "pending"


def _results(futures: Sequence[Any], gone: str) -> tuple[list[Result], BaseException | None]:
    """What stages gave back, up to the first that failed, and why that did.

    `gone`: why the rest was taken back from the cluster; empty: it was not.
    """
    results: list[Result] = []
    for future in futures:
        stage_over = future.wrapped_future.status
        future.wait(cluster.CONNECT_SECONDS)
        state = getattr(future, "_final_state", None)
        if state is None:
            why = gone or "the scheduler has lost it"
            if stage_over == "error":
                why = str(future.wrapped_future.exception()).partition(". ")[0]
            return results, _lost(future, why)
        if not state.is_completed():
            error = state.result(raise_on_failure=False)
            return results, error if isinstance(error, BaseException) else RunError(str(state))
        results.append(state.result())
    return results, None


class _Deserted:
    """Whether a cluster has had no worker for DESERTED_SECONDS."""

    def __init__(self) -> None:
        self._since: float | None = None

    def by_now(self, waiting: Sequence[Any]) -> bool:
        """Asked again and again; `waiting`: the futures that are not over."""
        client: Client | None = waiting[0].wrapped_future.client if waiting else None
        try:
            there = client is None or client.nthreads(callback_timeout=cluster.CONNECT_SECONDS)
        except Exception:  # no scheduler answers: what becomes of its tasks Dask tells by itself
            there = True
        if there:
            self._since = None
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since >= DESERTED_SECONDS


def _lost(future: Any, why: str) -> RunError:
    """Why a task has no end, told to Prefect's server, too: its worker did not live to do so."""
    told = f"a task was lost on Dask: {why}"
    try:
        with get_client(sync_client=True) as client:
            client.set_task_run_state(future.task_run_id, Crashed(message=told), force=True)
    except Exception:  # the error below is what matters
        _log.info("Prefect's server could not be told", exc_info=True)
    return RunError(f"{told}; what has come back is kept, run it again")


def _clear_workers(params: Params, installation: str) -> None:
    """No exam's frames stay on a worker that has nothing more to do."""
    try:
        with connected(params.run.scheduler or "") as client:
            client.run(_clear, installation, on_error="return")
    except UserError as error:
        _log.warning("the workers' folders could not be cleared: %s", error)


def _clear(installation: str, dask_worker: Worker) -> None:
    places.clear(elsewhere.folder_of(_folder(dask_worker), installation))


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

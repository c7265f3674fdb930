"""Where the variants of a retraining run, by `run.engine`, and how many of them at once."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flows import gpu
from keyslice.config import Params, Workspace
from keyslice.errors import UserError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit on processor time: `QUOTA PERIOD`, or `max PERIOD` without one."""


@contextmanager
def task_runner(
    workspace: Workspace,
    params: Params,
    datasets: Sequence[str],
    parallel: int | None = None,
    *,
    alone: bool = False,
) -> Iterator[Any]:
    """Prefect's runner for a retraining of the datasets, which is to end within the block.

    Args:
        workspace: that is retrained.
        params: its settings.
        datasets: names in params.yaml.
        parallel: variants at a time; default: see `at_once`.
        alone: by hand, not one of the service, which runs up to `service.retrainings` side by side.

    Raises:
        UserError: the runner is not installed, or `parallel` is not its to say; or its workers
            would know of no Prefect server.
    """
    if params.run.engine == "dask":
        yield _dask(params, parallel)
        return
    # The runner's threads wait for processes: a thread pool is all that it takes.
    from prefect.task_runners import ThreadPoolTaskRunner

    wanted = {train.device for train in _trains(params, datasets)}
    found = gpu.devices(workspace) if wanted != {"cpu"} else ()
    runs = 1 if alone else params.service.retrainings
    with gpu.lending(workspace, found, parallel or 0):
        most = parallel or at_once(params, datasets, found, runs)
        yield ThreadPoolTaskRunner(max_workers=most)


def at_once(params: Params, datasets: Sequence[str], gpus: Sequence[str], runs: int = 1) -> int:
    """How many variants are trained side by side: as many as have cores for their threads.

    Where any is trained on a GPU: as many as have one of their own, too. `runs` retrainings share
    the cores evenly, and the GPUs as they come (`gpu.lending`).
    """
    most = most_at_once(params, datasets, runs)
    wanted = {train.device for train in _trains(params, datasets)}
    if wanted == {"cpu"} or (not gpus and "cuda" not in wanted):
        return most
    return min(most, max(1, len(gpus)))


def most_at_once(params: Params, datasets: Sequence[str], runs: int = 1) -> int:
    """How many trainings share no core, in each of `runs` retrainings; one at least."""
    return max(1, cores() // runs // max(train.threads for train in _trains(params, datasets)))


def _trains(params: Params, datasets: Sequence[str]) -> list[Any]:
    return [params.stage(name, variant).train for name in datasets for variant in params.variants]


def cores() -> int:
    """Cores that this process may use: those it is bound to, within its container's limit."""
    bound = hasattr(os, "sched_getaffinity")  # not on macOS
    count = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    if CPU_QUOTA.is_file():
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return count


def _dask(params: Params, parallel: int | None) -> Any:
    if parallel is not None:
        raise UserError(
            "is for the engine threads",
            where="--parallel",
            rule="on Dask as many stages run at a time as its workers have threads",
            remedy="leave it out, or start fewer workers",
        )
    if find_spec("prefect_dask") is None:
        raise UserError(
            "prefect-dask is not installed",
            where="params.yaml: run.engine: dask",
            remedy="uv pip install 'keyslice[dask]'",
        )
    from prefect.settings import PREFECT_API_URL
    from prefect_dask.task_runners import DaskTaskRunner

    if PREFECT_API_URL.value() is None:
        raise UserError(
            "PREFECT_API_URL is not set",
            where="run.engine: dask",
            rule="workers tell Prefect's server what they do; one that a run starts for itself "
            "answers nobody else",
            remedy="keyslice up, and an address of it that the workers reach",
        )
    return DaskTaskRunner(address=params.run.scheduler)

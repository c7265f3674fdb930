"""`keyslice retrain` from the outside: settings first, then Prefect, and results in plain words."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows import gpu
from flows.environment import environment
from flows.progress import Display
from keyslice.config import Params, Workspace, load
from keyslice.errors import RunError, UserError
from keyslice.stages.running import only_retraining

if TYPE_CHECKING:
    from flows.chain import Retrained

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit on processor time: `QUOTA PERIOD`, or `max PERIOD` without one."""


def run(
    workspace: Workspace,
    datasets: Sequence[str],
    *,
    parallel: int | None = None,
    verbose: bool = False,
    console: Console | None = None,
) -> "list[Retrained]":
    """Run the flow in this process; what is up to date is not done again.

    Args:
        workspace: to work in.
        datasets: names in params.yaml.
        parallel: variants at a time; default: see `at_once`.
        verbose: show Prefect's own log on the terminal.
        console: where progress is shown; default: standard error.

    Raises:
        UserError: a dataset is being retrained or registered already; or all that failed did so by
            mistakes in settings or input.
        flows.chain.RetrainFailed: something else failed.
        RunError: Prefect failed, before or beside the retraining.
    """
    for name, value in environment(workspace, verbose=verbose).items():
        os.environ.setdefault(name, value)
    with (
        only_retraining(workspace, datasets, "keyslice retrain"),
        Display(console or Console(stderr=True)),
    ):
        from prefect.task_runners import ThreadPoolTaskRunner

        from flows.chain import RetrainFailed, retrain

        # The runner's threads wait for processes: a thread pool is all that it takes.
        workers = parallel or at_once(workspace, load(workspace.params), datasets)
        runner: Any = ThreadPoolTaskRunner(max_workers=workers)
        flow = retrain.with_options(
            task_runner=runner, flow_run_name=f"retrain {', '.join(datasets)}"
        )
        try:
            return flow(str(workspace.root), list(datasets))
        except RetrainFailed as failed:
            if all(isinstance(error, UserError) for error in failed.failures.values()):
                raise UserError(str(failed)) from None
            raise
        except Exception as error:  # whatever its client, server or database raises
            raise _prefect_failed(error) from error


def at_once(workspace: Workspace, params: Params, datasets: Sequence[str]) -> int:
    """How many variants are trained side by side: as many as have cores for their threads.

    One where any is trained on a GPU: all would share the first one, and its memory.
    """
    trains = [params.stage(name, variant).train for name in datasets for variant in params.variants]
    most = max(1, cores() // max(train.threads for train in trains))
    devices = {train.device for train in trains}
    if most == 1 or devices == {"cpu"}:
        return most
    return 1 if "cuda" in devices or gpu.available(workspace) else most


def cores() -> int:
    """Cores that this process may use: those it is bound to, within its container's limit."""
    bound = hasattr(os, "sched_getaffinity")  # not on macOS
    count = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    if CPU_QUOTA.is_file():
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return count


def _prefect_failed(error: Exception) -> RunError:
    address = os.environ.get("PREFECT_API_URL")
    named = (
        f"PREFECT_API_URL names the Prefect server {address}; start it, or unset the variable"
        if address
        else "PREFECT_API_URL is not set, so a server was started for the run, with its database "
        "in state/prefect; where that is damaged, or a newer Prefect wrote it, move the folder "
        "away: it holds Prefect's own record of runs and nothing else, and is made anew"
    )
    return RunError(f"Prefect: {error or type(error).__name__}; {named}")

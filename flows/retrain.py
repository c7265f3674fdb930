"""`keyslice retrain` from the outside: settings first, then Prefect, and results in plain words."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from flows import engine
from flows.environment import prepare
from flows.own_server import own_server
from flows.progress import Display
from keyslice import space
from keyslice.config import Workspace, load
from keyslice.ending import interruptible
from keyslice.errors import RunError, UserError, without_credentials
from keyslice.stages.running import only_retraining

if TYPE_CHECKING:
    from flows.chain import Retrained


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
        parallel: variants at a time; default: see `flows.engine`.
        verbose: show Prefect's own log on the terminal.
        console: where progress is shown; default: standard error.

    Raises:
        UserError: a dataset is being retrained or registered already; or all that failed did so by
            mistakes in settings or input.
        flows.chain.RetrainFailed: something else failed.
        RunError: Prefect failed, before or beside the retraining.
        KeyboardInterrupt: it was stopped, by Ctrl-C or another of `keyslice.ending.signals`; none
            of its stages still runs.
    """
    prepare(workspace, verbose=verbose)
    with (
        interruptible(),
        only_retraining(workspace, datasets, "keyslice retrain"),
        Display(console or Console(stderr=True)),
        engine.task_runner(
            workspace, load(workspace.params), datasets, parallel, alone=True
        ) as runner,
    ):
        from flows.chain import RetrainFailed, retrain

        flow = retrain.with_options(
            task_runner=runner, flow_run_name=f"retrain {', '.join(datasets)}"
        )
        try:
            with own_server(workspace):
                return flow(str(workspace.root), list(datasets))
        except RetrainFailed as failed:
            if all(isinstance(error, UserError) for error in failed.failures.values()):
                raise UserError(str(failed)) from None
            raise
        except Exception as error:  # whatever its client, server or database raises
            raise space.explained(workspace.root, error) or _prefect_failed(error) from error


def _prefect_failed(error: Exception) -> RunError:
    """Without the password that an address may hold, in the library's own words, too."""
    address = os.environ.get("PREFECT_API_URL")
    named = (
        f"PREFECT_API_URL names the Prefect server {address}; start it, or unset the variable"
        if address
        else "PREFECT_API_URL is not set, so a server was started for the run, with its database "
        "in state/prefect; where that is damaged, or a newer Prefect wrote it, move the folder "
        "away: it holds Prefect's own record of runs and nothing else, and is made anew"
    )
    told = f"Prefect: {error or type(error).__name__}; {named}"
    return RunError(without_credentials(told))

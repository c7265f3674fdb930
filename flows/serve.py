"""`keyslice serve`: starts the runs that deployments ask for, each as a process of its own.

Prefect keeps the schedules and the record.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

import anyio
import httpx
import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runner import Runner

from flows import attempts
from flows.deployments import deploy, served
from flows.watching import Tell, Watching
from keyslice import ending, versioning
from keyslice.config import Workspace, load
from keyslice.errors import RunError, without_credentials
from keyslice.stages.running import alive

ANSWER_SECONDS = 5.0
"""For Prefect's server, while this process is being ended; and for the runner to let go of it."""
GRACE_SECONDS = 30.0
"""For the runner to end its runs. All of this takes less than `keyslice up` and systemd wait."""
ALONE_SECONDS = 15.0
"""For a run to end its stages, without Prefect's server."""
POLL_SECONDS = 30.0
"""From one question for runs that are due to the next, at most; else retrain.watch_seconds."""


class SteadyRunner(Runner):
    """Prefect's runner, which waits for a server that is away.

    Prefect's own gives up after three questions without an answer, and ends its runs with it.
    """

    async def poll(self, tell: Tell, seconds: Callable[[], float]) -> None:
        """Start the runs that are due, until cancelled; `seconds` lie between two questions."""
        away = False
        while True:
            try:
                await self._get_and_submit_flow_runs()
                if away:
                    tell("Prefect's server answers again")
                away = False
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                if not away:
                    tell(f"Prefect's server does not answer ({type(error).__name__}); waiting")
                away = True
            await anyio.sleep(seconds())


def serve(workspace: Workspace, tell: Tell) -> None:
    """Serve until SIGTERM or SIGINT; runs that are under way are ended, and resumed next time.

    Args:
        workspace: to serve.
        tell: shows a line.

    Raises:
        UserError: params.yaml breaks a rule.
        RunError: Prefect's server does not answer.
    """
    asyncio.run(_serve(workspace, tell))


async def _serve(workspace: Workspace, tell: Tell) -> None:
    text = workspace.params.read_bytes()  # before it is read: what changes in between is seen
    params = load(workspace.params)
    stopping = _stopping()
    runner = SteadyRunner(
        "keyslice",
        query_seconds=POLL_SECONDS,  # of its own loops, for cancelled runs
        limit=params.service.retrainings,
        pause_on_shutdown=False,
    )
    async with get_client() as client:
        try:
            ids = await deploy(runner, workspace, params, client)
        except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
            address = os.environ.get("PREFECT_API_URL", "")
            told = f"Prefect's server at {address} does not answer ({error})"
            raise RunError(without_credentials(told)) from error
        versioning.recover(workspace)
        told = await anyio.to_thread.run_sync(served, params, datetime.now(UTC))
        watching = Watching(workspace, params, text, ids, runner, client, tell)
        # A server that is away would have the runner ask again for a quarter of an hour.
        with versioning.children() as end_counts, anyio.CancelScope() as whole:
            async with runner:
                async with anyio.create_task_group() as tasks:
                    tell(f"serving {told}")
                    tasks.start_soon(runner.poll, tell, lambda: min(POLL_SECONDS, watching.seconds))
                    tasks.start_soon(watching.go_on)
                    await stopping.wait()
                    tell("stopping")
                    tasks.cancel_scope.cancel()  # before runs end: a watch would have them resumed
                await anyio.to_thread.run_sync(end_counts)
                if await _answers(client):
                    with anyio.move_on_after(GRACE_SECONDS):
                        await runner.cancel_all()
                await anyio.to_thread.run_sync(_end_runs, workspace, [*ids])
                whole.deadline = anyio.current_time() + ANSWER_SECONDS


def _stopping() -> anyio.Event:
    """Set by the first signal; the second one ends this process at once."""
    stopping, loop, signals = anyio.Event(), asyncio.get_running_loop(), ending.signals()

    def stop() -> None:
        stopping.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, stop)
    return stopping


async def _answers(client: PrefectClient) -> bool:
    """Whether Prefect's server does, at once."""
    with anyio.move_on_after(ANSWER_SECONDS), suppress(httpx.HTTPError, PrefectHTTPStatusError):
        await client.hello()
        return True
    return False


def _end_runs(workspace: Workspace, datasets: Iterable[str]) -> None:
    """End what the runner has not: a run tells Prefect's server first, and waits for that.

    Its stages have ended by then; that it was stopped is noted for it.
    """
    left = {}
    for name in datasets:
        last = attempts.last(workspace, name)
        if last is not None and (process := alive(last.process)) is not None:
            left[name] = last, process
    for _, process in left.values():
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs([process for _, process in left.values()], ALONE_SECONDS)
    for name, (last, process) in left.items():
        with suppress(psutil.NoSuchProcess):
            process.kill()
        if attempts.last(workspace, name) == last:
            with suppress(OSError):  # on a full disk it counts as cut off
                attempts.end(workspace, name, last, "stopped")

"""The flow that `keyslice serve` deploys once for each dataset: retrain it if there is cause to."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed

from flows import announcing, attempts, engine, notify, overdue
from flows.chain import Retrained, RetrainFailed, retrain
from flows.due import SOURCE_CHANGED, held_due
from flows.limits import limited
from keyslice import space, versioning
from keyslice.config import FolderDataset, Notify, Params, Workspace, load
from keyslice.errors import RunError
from keyslice.exams.news import news
from keyslice.registry import settling
from keyslice.stages.running import InUseError, only_retraining

BRIEF = 5.0
"""Seconds that Prefect's server has for an answer while this process is being ended."""


@flow(name="keep-current", flow_run_name="{dataset}: {why}", persist_result=False)
def keep_current(root: str, dataset: str, why: str = "by hand") -> State[list[Retrained]]:
    """Retrain a dataset where that would do work.

    Args:
        root: the workspace's folder.
        dataset: a name in params.yaml.
        why: schedule, arrival, …; kept with the attempt.

    Returns:
        A completed state that says what was done.

    Raises:
        UserError: settings or input break a rule.
        RunError: something else failed; what does not depend on it was done.
    """
    log = get_run_logger()
    workspace, params, signalled = Workspace(Path(root)), None, False
    try:
        with only_retraining(workspace, [dataset], "keyslice serve"):
            due = datetime.fromtimestamp(flow_run.scheduled_start_time.timestamp(), UTC)
            attempt = attempts.begin(workspace, dataset, why, str(flow_run.id), due)
            if deployment.id and (late := overdue.skip(UUID(deployment.id))):
                log.info("does the work of %d runs that came late, too", late)
            try:
                params = load(workspace.params)
                done = _attempt(workspace, params, dataset, log.info)
            except Exception:
                with suppress(OSError):  # then it counts as cut off, and is resumed
                    attempts.end(workspace, dataset, attempt, "failed")
                raise
            except BaseException:
                signalled = True
                outcome = "cancelled" if _cancelled_by_a_person() else "stopped"
                with suppress(OSError):  # as above
                    attempts.end(workspace, dataset, attempt, outcome)
                raise
            if done is None:
                attempts.end(workspace, dataset, attempt, "nothing new")
                return Completed(message="nothing new")
            result = f"version {done.model_version}, {done.gate}"
            attempts.end(workspace, dataset, attempt, "retrained", result)
            return Completed(message=f"model {result}", data=[done])
    except InUseError as in_use:
        return Completed(message=f"{in_use}; what comes meanwhile is taken up afterwards")
    except Exception as error:
        raise _told(workspace, params, dataset, error) from error
    finally:
        if params is not None and not signalled:  # there are seconds left then
            settling.push(workspace, params, log.warning)


def _told(workspace: Workspace, params: Params | None, dataset: str, error: Exception) -> Exception:
    """The error, a full disk in the place of what it led to; told to whoever is to hear of it."""
    failed = space.explained(workspace.root, error) or error
    if isinstance(failed, space.NoSpaceError):  # no page, log or note may take it
        sys.stderr.write(f"{dataset}: {failed}\n")
    if not isinstance(error, RetrainFailed):  # that one has told of itself
        told = notify.failure({dataset: failed})
        settings = Notify() if params is None else params.notify
        announcing.tell(workspace, settings, "failure", told, dataset)
    return failed


def _attempt(
    workspace: Workspace, params: Params, dataset: str, tell: settling.Tell
) -> Retrained | None:
    """None: there was nothing to do."""
    reasons = _reasons(workspace, params, dataset, tell)
    if not reasons:
        return None
    for reason in reasons:
        tell(reason)
    with engine.task_runner(workspace, params, [dataset]) as runner:
        run = retrain.with_options(task_runner=runner, flow_run_name=f"retrain {dataset}")
        [done] = run(str(workspace.root), [dataset])
    return done


def _cancelled_by_a_person() -> bool:
    """Whether Prefect was asked to cancel this run; else the service ends, and this run with it."""
    try:
        # Once, briefly: whoever has sent the signal waits for seconds only.
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": BRIEF}, sync_client=True) as client,
        ):
            state = client.read_flow_run(UUID(flow_run.id)).state
        return state is not None and state.is_cancelling()
    except Exception:  # no answer: it will be resumed, and can be cancelled again
        return False


def _reasons(workspace: Workspace, params: Params, dataset: str, tell: settling.Tell) -> list[str]:
    """Why a retraining would do work, or nothing."""
    if versioning.recover(workspace):
        tell("cleared away what a killed run had left")
    settling.resume(workspace, tell)
    hours = params.retrain.stage_hours
    late = RunError(
        f"whether there is anything to do was not known after {hours:g} h (retrain.stage_hours); "
        "do its source and DVC's cache answer?"
    )
    with limited(3600 * hours, late):
        return _cause(workspace, params, dataset, tell)


def _cause(workspace: Workspace, params: Params, dataset: str, tell: settling.Tell) -> list[str]:
    reasons = held_due(workspace, params, [dataset])
    if reasons != [f"{dataset}: {SOURCE_CHANGED}"]:
        return reasons
    settings, least = params.dataset(dataset), params.retrain_settings(dataset).minimum_new_exams
    if least == 1 or not isinstance(settings, FolderDataset):
        return reasons
    found = len(news(workspace, dataset, settings).exams)
    if 0 < found < least:
        tell(f"{found} new exams; retrain.minimum_new_exams is {least}")
        return []
    return reasons

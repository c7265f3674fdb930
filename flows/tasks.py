"""The steps of a retraining as Prefect's tasks. They hold no logic: each calls one function.

They take the workspace's path and names, never data, so that they can run on another machine. None
has a tag: Prefect asks its server before each tagged task whether a limit on the tag is free, and
waits two seconds wherever SQLite is still recording the task before.
"""

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact

from flows import gpu
from flows.limits import limited
from flows.progress import Step, on_page, step
from keyslice import space, versioning
from keyslice.config import Params, Workspace, load
from keyslice.errors import RunError, UserError
from keyslice.exams.ingestion import IngestReport

LATENCY = (sys.executable, "-P", "-m", "keyslice.cli", "stage", "latency")
SIGNALLED = 128
"""A shell adds the signal to this where one has ended its command."""
COUNTED = {
    "accepted": "new",
    "waiting": "waiting for a label",
    "left_out": "left out (class too rare)",
    "quarantined": "quarantined",
    "arriving": "still arriving",
    "relabelled": "relabelled",
    "removed": "removed",
    "barred": "of patients who have withdrawn",
}
"""Of an ingestion's report: what a person has to know who was not there."""


@dataclass(frozen=True)
class Gated:
    """How the gate went."""

    sentence: str
    event: int
    """Of the ledger: its number."""
    waits: bool
    """Whether a person has to decide."""


@dataclass(frozen=True)
class Taken:
    """What an ingestion ended with."""

    version: str
    """Of the dataset."""
    account: str
    """Numbers of files, in words, without a file's name."""


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Only what may go away by itself: a mistake, or a stage's own failure, does not.

    A stage that a signal ended may have found too little memory, or somebody has killed it.
    """
    if versioning.children_ended():
        return False
    error = state.result(raise_on_failure=False)
    if isinstance(error, versioning.StageFailed):
        return error.code < 0 or error.code > SIGNALLED
    never = UserError | versioning.TimeLimitError | versioning.ChildrenEndedError
    return not isinstance(error, never) and not space.says(error)


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 5,
    "retry_condition_fn": worth_retrying,
    "persist_result": False,
}


def opened(root: str) -> tuple[Workspace, Params]:
    """The workspace at `root`, and its settings as they are now."""
    workspace = Workspace(Path(root))
    return workspace, load(workspace.params)


@task(task_run_name="ingest {dataset}", **RETRIES)
def ingest(root: str, dataset: str) -> Taken:
    """Take in what is new in the dataset's source.

    Raises:
        UserError: its settings or its source break a rule.
        TimeLimitError: it took longer than `retrain.stage_hours`; its source may hang.
        RunError: anything else; told by its kind alone, for its words may hold the name of a file
            or of a patient, and Prefect keeps what it is told.
    """
    from keyslice.ingest import ingest_dataset

    workspace, params = opened(root)
    hours = params.retrain.stage_hours
    late = versioning.TimeLimitError(
        f"it had not ended after {hours:g} h, and was ended (retrain.stage_hours); does its source "
        "answer?"
    )
    with step(f"ingest {dataset}") as shown:
        try:
            with limited(3600 * hours, late):
                ingested = ingest_dataset(
                    workspace,
                    params,
                    dataset,
                    progress=lambda done, total: shown.progress(f"{done} of {total} exams"),
                )
        except (UserError, RunError):
            raise
        except Exception as error:
            kind = getattr(error, "strerror", None) or type(error).__name__
            raise RunError(
                f"{kind}; `keyslice ingest {dataset}` tells the whole of it on the terminal"
            ) from None
        shown.outcome = "unchanged" if ingested.version == ingested.previous else "new version"
        shown.detail = account(ingested.report)
        return Taken(ingested.version, shown.detail)


def account(report: IngestReport) -> str:
    """`12 new, 2 quarantined`: the numbers that are not zero; empty where all are."""
    counts = vars(report)
    return ", ".join(f"{counts[name]} {words}" for name, words in COUNTED.items() if counts[name])


@task(task_run_name="check {dataset}", **RETRIES)
def check(root: str, dataset: str) -> None:
    """Find before exams are prepared what the trainings would refuse only then.

    Raises:
        UserError: see `keyslice.stages.preflight`.
    """
    from keyslice.stages.preflight import preflight  # torch and timm: seconds

    _, params = opened(root)
    with step(f"check {dataset}") as shown:
        preflight(params, dataset, params.variants)
        shown.outcome = "can be trained"


@task(task_run_name="{stage}", **RETRIES)
def reproduce(root: str, stage: str) -> versioning.Outcome:
    """One stage of dvc.yaml, brought up to date."""
    with step(stage) as shown:
        return _reproduced(Workspace(Path(root)), stage, shown)


def _reproduced(workspace: Workspace, stage: str, shown: Step) -> versioning.Outcome:
    def on_line(line: str) -> None:
        if text := far(line):
            shown.progress(text)

    limit = 3600 * load(workspace.params).retrain.stage_hours
    with gpu.lent(stage) as own:
        outcome = versioning.reproduce(
            workspace, stage, on_line=on_line, limit=limit, variables=own
        )
    shown.outcome = outcome
    return outcome


def far(line: str) -> str:
    """How far a stage is, short, by a line of its output; empty: the line does not say."""
    epoch = re.search(r" · (seed \d+ · epoch \d+): .*, (AUC \S+)$", line)
    if epoch:
        return f"{epoch[1]} · val. {epoch[2]}"
    other = re.search(r" · (weights .*|\d+ of \d+ exams)$", line)
    return other[1] if other else ""


@task(task_run_name="lay down what {dataset} starts from", **RETRIES)
def lay_down(root: str, dataset: str, stale: list[str]) -> None:
    """Where `train.start` asks for it, the champion's network for the trainings that are due."""
    from keyslice.registry import starting

    with step(f"start of {dataset}") as shown:
        words = starting.lay_down(*opened(root), dataset, stale)
        shown.outcome = "laid down" if words else "nothing to train"
        shown.detail = "; ".join(f"{variant} {one}" for variant, one in words.items())


@task(task_run_name="begin {dataset}", **RETRIES)
def begin(root: str, dataset: str, *, current: bool) -> str:
    """The retraining's run; where results are `current`, the one that they may have already.

    What its candidate will be judged by is fixed in the ledger before anything is trained.
    """
    from keyslice.registry import chronicle
    from keyslice.registry.mirror import Mirror

    workspace, params = opened(root)
    lock_hash = versioning.lock_hash(workspace, dataset, params.variants) if current else None
    run = Mirror(workspace, dataset).begin(lock_hash)
    chronicle.run_started(workspace, params, dataset, run)
    return run


@task(task_run_name="drift of {dataset}", **RETRIES)
def drift(root: str, dataset: str, version: str, parent: str) -> str:
    """How the exams of a version differ from those that the last model knows, in a sentence.

    The page is written to state/drift and shown with the retraining's run; empty: no model yet.
    """
    from keyslice.registry import drift

    workspace = Workspace(Path(root))
    with step(f"drift of {dataset}") as shown:
        try:
            found = drift.find(workspace, dataset, version)
        except UserError as error:  # a report is no reason not to retrain
            shown.outcome, shown.detail = "not compared", str(error)
            return f"not compared: {error}"
        if found is None:
            shown.outcome = "no model yet"
            return ""
        drift.keep(workspace, found)
        drift.log(workspace, parent, found)
        shown.outcome = f"{len(found.drift.shifted)} shifted"
        shown.detail = found.drift.sentence
        return found.drift.sentence


@task(task_run_name="train {variant} on {dataset}", **RETRIES)
def train(root: str, dataset: str, variant: str, parent: str) -> versioning.Outcome:
    """Stage train of one variant; its curves are followed into MLflow meanwhile."""
    from keyslice.registry.curves import Follower, following
    from keyslice.registry.mirror import Mirror

    workspace, mirror = Workspace(Path(root)), Mirror(Workspace(Path(root)), dataset)
    follower = Follower(
        mirror.client,
        workspace.checkpoints(dataset, variant),
        lambda seed: mirror.open_run(parent, variant, seed),
        since=time.time(),
    )
    stage = f"train@{dataset}-{variant}"
    with step(stage) as shown, following(follower):
        return _reproduced(workspace, stage, shown)


@task(task_run_name="latency of {dataset}", **RETRIES)
def latency(root: str, dataset: str) -> None:
    """Milliseconds per exam, in a process of its own, while nothing else of the flow runs."""
    with step(f"latency of {dataset}"):
        log = Path(root) / "state" / "logs" / f"latency@{dataset}.log"
        limit = 3600 * opened(root)[1].retrain.stage_hours
        ended = versioning.run([*LATENCY, dataset], cwd=Path(root), log=log, limit=limit)
        if ended.code != 0:
            raise versioning.StageFailed(
                f"latency@{dataset}", ended.code, ended.lines[-1] if ended.lines else ""
            )


@task(task_run_name="record {dataset}", **RETRIES)
def record(root: str, dataset: str, parent: str) -> str:
    """The retraining's run, complete: its commit, its figures, a run for each variant and seed."""
    from keyslice.registry import publish

    with step(f"record {dataset}"):
        return publish.record(*opened(root), dataset, parent)


@task(task_run_name="register {dataset}", **RETRIES)
def register(root: str, dataset: str, parent: str) -> int:
    """The version of the registered model that the candidate is."""
    from keyslice.registry import publish

    with step(f"register {dataset}") as shown:
        number = int(publish.enter(*opened(root), dataset, parent).version)
        shown.outcome = f"version {number}"
        return number


@task(task_run_name="gate of {dataset}", **RETRIES)
def gate(root: str, dataset: str, version: int) -> Gated | None:
    """Hold the version against the champion; None: it is the champion already."""
    from keyslice.evaluation.criterion import markdown
    from keyslice.provenance import ledger, standing
    from keyslice.registry import gate

    workspace, params = opened(root)
    with step(f"gate of {dataset}") as shown:
        if standing.champion(ledger.read(workspace), dataset) == version:
            shown.outcome = "is the champion"
            return None
        event = gate.run(workspace, params, dataset, version)
        shown.outcome = event.payload["outcome"]
        blocking = [one["name"] for one in event.payload["criteria"] if one["blocks"]]
        waits = False
        if blocking:
            shown.detail = f"blocked by {', '.join(blocking)}"
        elif standing.champion(ledger.read(workspace), dataset) == version:
            shown.detail = f"version {version} is the champion"
        else:
            waits, shown.detail = True, "waits for approval"
        with on_page():
            create_markdown_artifact(
                markdown(event.payload),
                key=f"gate-{dataset.replace('_', '-')}",
                description=f"{dataset}, model version {version}, event {event.number} of the "
                "ledger",
            )
        return Gated(f"{shown.outcome}; {shown.detail}", event.number, waits)


@task(task_run_name="commit {dataset}", persist_result=False)
def commit(root: str, dataset: str, run_id: str, version: int) -> str:
    """One commit of what the retraining moved; why there is none, or empty."""
    from keyslice.provenance import ledger

    workspace = Workspace(Path(root))
    with step(f"commit {dataset}") as shown:
        last = ledger.read(workspace)[-1]
        message = versioning.retraining_message(
            dataset,
            version=versioning.version(workspace, dataset) or "",
            model_version=version,
            run_id=run_id,
            ledger=f"{last.number} {last.hash}",
        )
        try:
            made = versioning.commit_retraining(workspace, dataset, message)
        except versioning.NotCommitted as reason:
            shown.outcome, shown.detail = "not committed", str(reason)
            return shown.detail
        shown.outcome = made[:10] if made else "nothing moved"
        return ""


@task(task_run_name="push {dataset} to {remote}", persist_result=False)
def push(root: str, dataset: str, remote: str) -> str:
    """Send the dataset and its results to a remote of DVC's; why they are not there, or empty."""
    with step(f"push {dataset} to {remote}") as shown:
        try:
            versioning.push_dataset(Workspace(Path(root)), dataset, remote, on_line=shown.progress)
        except RunError as reason:
            shown.outcome, shown.detail = "not pushed", str(reason)
            return shown.detail
        shown.outcome = "pushed"
        return ""


@task(task_run_name="abandon {dataset}", persist_result=False)
def abandon(root: str, dataset: str, parent: str, finished: list[str]) -> None:
    """End the run of a retraining that failed; what its finished variants left is kept.

    Tried once: an MLflow that is away may be what failed.
    """
    from keyslice.registry.mirror import Mirror

    Mirror(Workspace(Path(root)), dataset).abandon(parent, finished)

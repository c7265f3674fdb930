"""DVC's command line: record a dataset's version, reproduce one stage, ask what is out of date.

A stage is named as in dvc.yaml: prepare@DATASET, train@DATASET-VARIANT, evaluate@DATASET-VARIANT,
compare@DATASET. Names of datasets hold no hyphen.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from keyslice.config import Workspace, load
from keyslice.errors import RunError, UserError
from keyslice.exams.listed import bring_in_line
from keyslice.exams.lock import HELD, dataset_lock
from keyslice.stages.running import under_way
from keyslice.versioning import lock, processes

Outcome = Literal["ran", "restored", "unchanged"]
"""A stage's command ran; its results came back from the cache; there was nothing to do."""

_ERROR = "error: "
"""How the command line begins the line that says what a user got wrong."""
_BUSY = re.compile(r"'(?P<path>.+)' is busy, it is being blocked by:")
"""How DVC begins to say that another DVC works on a path."""
LONGEST = 24 * 3600.0
"""Seconds for a question to DVC, or for what it adds: hours at most, where much is hashed anew."""
BUSY_SECONDS = 600.0
"""That a dataset's version waits for a DVC that hashes the dataset's exams."""


class DVCError(RunError):
    """DVC itself failed: a lock, a missing file, a damaged cache."""


class Busy(DVCError):  # noqa: N818 - a state that passes
    """Another DVC works on a path that this one needs.

    Attributes:
        path: that DVC came to, absolute.
    """

    def __init__(self, path: Path, detail: str) -> None:
        self.path = path
        super().__init__(detail)

    def __reduce__(self) -> Any:  # from a worker it comes pickled
        return type(self), (self.path, str(self))


class StageFailed(RunError):  # noqa: N818 - named for what happened, as StopIteration is
    """A stage's own command failed.

    Attributes:
        stage: its name.
        code: exit status of the command.
    """

    def __init__(self, stage: str, code: int, detail: str) -> None:
        self.stage, self.code, self.detail = stage, code, detail
        super().__init__(f"{stage} ended with exit code {code}: {detail}")

    def __reduce__(self) -> Any:  # from a worker it comes pickled
        return type(self), (self.stage, self.code, self.detail)


def record_version(workspace: Workspace, dataset: str) -> str:
    """Make the folder of exams as it is now a version; returns it.

    A DVC that still hashes the folder (it does so after stage prepare has ended) is waited for.

    Raises:
        Busy: it has not ended within BUSY_SECONDS.
        DVCError: the folder could not be recorded.
    """
    _add(workspace, workspace.exams(dataset))
    recorded = lock.version(workspace, dataset)
    if recorded is None:
        raise DVCError(f"dvc add data/exams/{dataset} left no pointer")
    return recorded


def record_networks(workspace: Workspace, dataset: str) -> None:
    """Have DVC hold the networks that trainings start from; where there are none, no more.

    Raises:
        Busy, DVCError: as `record_version`.
    """
    if workspace.networks(dataset).is_dir():
        _add(workspace, workspace.networks(dataset))
    else:
        workspace.networks_pointer(dataset).unlink(missing_ok=True)


def _add(workspace: Workspace, folder: Path) -> None:
    path = folder.relative_to(workspace.root).as_posix()
    guard = workspace.lock("dvc-add")
    guard.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_SECONDS
    with FileLock(guard):  # `dvc add` does not wait for another one, whatever it is told
        while True:
            try:
                call(workspace, "--wait-for-lock", "add", path)
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)


def reproduce(
    workspace: Workspace,
    stage: str,
    *,
    on_line: Callable[[str], None] | None = None,
    limit: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Bring one stage up to date, and only that one.

    Its output goes to state/logs/<stage>.log. The stage and all that it started end with this
    call, also when the call is left by an exception.

    `on_line` is called with each line of output; after `limit` seconds the stage is ended.
    `variables` are added to its environment.

    Raises:
        UserError: the stage said that its user made a mistake (exit code 2); its own words.
        StageFailed: its command failed otherwise.
        TimeLimitError: it took longer than `limit`.
        DVCError: DVC did not come to run it.
    """
    outcome: Outcome = "unchanged"

    def read(line: str) -> None:
        nonlocal outcome
        if line.startswith("> "):
            outcome = "ran"
        elif line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
            outcome = "restored"
        if on_line is not None:
            on_line(line)

    log = workspace.state / "logs" / f"{stage}.log"
    command = (*processes.DVC, "--wait-for-lock", "repro", "--single-item", stage)
    with _undisturbed(workspace, stage) as held:
        own = {**(variables or {}), **held}
        try:
            finished = processes.run(
                command, cwd=workspace.root, log=log, on_line=read, variables=own, limit=limit
            )
        except processes.TimeLimitError as late:
            raise processes.TimeLimitError(f"{stage} {late} (retrain.stage_hours)") from None
    if finished.code != 0:
        raise _failure(stage, finished, f"see {log.relative_to(workspace.root)}")
    return outcome


@contextmanager
def _undisturbed(workspace: Workspace, stage: str) -> Iterator[dict[str, str]]:
    """Let no ingestion change the exams until DVC has hashed what stage prepare has read.

    Yields what the stage's environment must say, so that it does not wait for this lock itself.
    """
    dataset = dataset_of(stage)
    if dataset is None or not stage.startswith("prepare@"):
        yield {}
        return
    with dataset_lock(workspace, dataset, stage):
        yield {HELD: dataset}


def stale(workspace: Workspace, datasets: Iterable[str]) -> list[str]:
    """Names of the datasets' stages that are not up to date, in the order of their names.

    A stage that runs now is not, nor is one that comes after it. A dataset that is not ingested
    has none.

    The list of datasets that DVC's graph is made from is brought in line with params.yaml first.

    Raises:
        DVCError: the graph cannot be read.
    """
    params = load(workspace.params)
    known = bring_in_line(workspace, params)
    # By name: DVC refuses to look at a stage that runs, and another dataset's may run now.
    wanted = [name for d in datasets if d in known for name in lock.stage_names(d, params.variants)]
    found = {name for one in under_way(workspace) for name in lock.followers(one.name, wanted)}
    while asked := [name for name in wanted if name not in found]:
        try:
            lines = call(workspace, "--wait-for-lock", "status", "--json", *asked)
        except Busy as busy:  # by a stage that has just begun, or whose results are being hashed
            more = lock.followers(_writer(workspace, busy.path), asked)
            if not more:
                raise
            found |= more
        else:
            start = next((i for i, line in enumerate(lines) if line.startswith("{")), None)
            report = json.loads("".join(lines[start:])) if start is not None else {}
            return sorted(found | set(report) & set(asked))
    return sorted(found)


def dataset_of(stage: str) -> str | None:
    """The dataset that a stage belongs to; None for what is no stage of a dataset."""
    _, _, item = stage.partition("@")
    return item.partition("-")[0] or None


def _writer(workspace: Workspace, path: Path) -> str:
    """The stage whose results lie at `path`; empty: none's do."""
    if not path.is_relative_to(workspace.data):
        return ""
    folder, dataset, variant = (*path.relative_to(workspace.data).parts, "", "", "")[:3]
    if folder in ("exams", "prepared"):
        return f"prepare@{dataset}"
    if folder in ("models", "results") and variant:
        return f"{'train' if folder == 'models' else 'evaluate'}@{dataset}-{variant}"
    return f"compare@{dataset}"  # it alone reads the folders of all variants


def call(workspace: Workspace, *arguments: str) -> tuple[str, ...]:
    """The lines of a command of DVC's that runs no stage.

    Raises:
        TimeLimitError: it took longer than LONGEST.
        DVCError: it failed; `Busy` where another DVC works on a path.
    """
    command = next(word for word in arguments if not word.startswith("-"))
    try:
        finished = processes.ask((*processes.DVC, *arguments), cwd=workspace.root, limit=LONGEST)
    except processes.TimeLimitError as late:
        raise processes.TimeLimitError(f"dvc {command} {late}; does its cache answer?") from None
    if finished.code != 0:
        last = _last_words(finished) or f"was ended by signal {-finished.code}"
        detail = f"dvc {command}: {last}"
        busy = _BUSY.search(last)
        raise Busy(Path(busy["path"]), detail) if busy else DVCError(detail)
    return finished.lines


def _failure(stage: str, finished: processes.Finished, hint: str) -> Exception:
    """What a failed reproduction means; DVC reports the command's exit code in its last words."""
    last = _last_words(finished)
    ended = re.search(r"exited with (-?\d+)$", last)
    if ended is None:
        return DVCError(f"{stage}: {last or f'dvc ended with {finished.code}'}; {hint}")
    code = int(ended.group(1))
    own = [line for line in finished.lines if line.startswith(_ERROR)]
    if code == 2 and own:
        return UserError(own[-1].removeprefix(_ERROR))
    before = [line for line in finished.lines if line.strip() and not line.endswith(last)]
    return StageFailed(stage, code, f"{before[-1] if before else last}; {hint}")


def _last_words(finished: processes.Finished) -> str:
    """What DVC says failed: its last error, else (a dvc.yaml that it cannot read) how it begins."""
    said = [line.strip() for line in finished.lines if line.strip()]
    errors = [number for number, line in enumerate(said) if line.startswith("ERROR: ")]
    if not errors:
        return said[0] if said else ""
    last = errors[-1]
    words = said[last].removeprefix("ERROR: ")
    # Who blocks a path stands on a line of its own.
    return " ".join([words, *said[last + 1 : last + 2]]) if words.endswith(":") else words

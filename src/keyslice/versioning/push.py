"""DVC's objects of one dataset to a remote, however often it takes.

DVC sends a folder's listing after its files, so a push that was cut off, by a kill or by the
network, is completed by the next one.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from keyslice import files
from keyslice.config import Workspace, load
from keyslice.errors import RunError, UserError, did_you_mean, without_credentials
from keyslice.versioning import lock, objects, processes

FIRST_WAIT_SECONDS = 2.0
"""Before the second attempt; each wait is twice the one before."""
PATIENCE_SECONDS = 900.0
"""Waited in all, between attempts, before a remote is given up: 10 attempts."""

_REMOTE = re.compile(r"remote\.(?P<name>.+)\.(?P<key>[^.]+)")
_BAR = re.compile(r"Pushing to \S+ +(?P<count>\S+/\S+) \[")
_PREFIX = "failed to push data to the cloud - "
_FILE = re.compile(r"failed to transfer '\w+' - (?P<why>.+)")
_MISSING = "cache files do not exist neither locally nor on remote"
_WRITES_BACK = ("version_aware", "worktree")


def check_remotes(
    workspace: Workspace, remotes: Iterable[str], *, where: str = "versioning.push"
) -> None:
    """Whether DVC has these remotes, asked before work starts; none of them is reached for.

    `where` is the setting that names them.

    Raises:
        UserError: DVC's settings have no such remote, or one that rewrites what is committed.
        RunError: DVC's settings cannot be read.
    """
    remotes = list(remotes)
    if not remotes:
        return
    known: dict[str, dict[str, str]] = {}
    for key, value in objects.settings(workspace).items():
        if match := _REMOTE.fullmatch(key):
            known.setdefault(match["name"], {})[match["key"]] = value
    for remote in remotes:
        settings = known.get(remote.lower())  # as DVC does
        if settings is None or "url" not in settings:
            raise UserError(
                f"DVC has no remote {remote!r}",
                where=where,
                rule="it names remotes of `dvc remote list`",
                remedy=did_you_mean(remote, known) if known else f"dvc remote add {remote} URL",
            )
        on = [key for key in _WRITES_BACK if settings.get(key, "").lower() in ("true", "1")]
        if on:
            raise UserError(
                f"DVC's remote {remote!r} has {on[0]} on",
                where=where,
                rule="pushing there has DVC write the bucket's versions in place of the dataset's "
                "own into pointers and dvc.lock",
                remedy=f"dvc remote modify --unset {remote} {on[0]}, or another remote",
            )


def push_dataset(
    workspace: Workspace,
    dataset: str,
    remote: str,
    *,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Send a dataset's exams, and what its stages made of them, to one of DVC's remotes.

    What is there is not sent again. While DVC sends, other DVC commands in the workspace wait.

    Args:
        workspace: whose cache is sent from.
        dataset: its name; of its stages those that dvc.lock knows.
        remote: its name in DVC's settings.
        on_line: is told how many files have been sent, as `300/901`, and of each failed attempt.

    Raises:
        RunError: attempts failed until PATIENCE_SECONDS were waited in all, one took longer than
            retrain.stage_hours, or the cache lacks something; names the remote. A later call sends
            what is missing.
        UserError: dvc.lock or the pointer is damaged.
    """
    targets, state = _targets(workspace, dataset), _state(workspace, dataset)
    _send_patiently(workspace, remote, targets, on_line, what=dataset)
    note = _note(workspace, dataset)
    files.write_text(note, json.dumps(_sent(note) | {remote: state}))


def push_stages(workspace: Workspace, stages: Sequence[str], remote: str) -> None:
    """Send what stages have left to one of DVC's remotes; raises as `push_dataset` does."""
    _send_patiently(workspace, remote, list(stages), lambda line: None, what=", ".join(stages))


def unpushed(workspace: Workspace, dataset: str, remotes: Iterable[str]) -> list[str]:
    """Those of the remotes that have not got the dataset as it is now from `push_dataset`.

    It is answered from a note in state/, without DVC and in no time.

    Raises:
        UserError: dvc.lock or the pointer is damaged.
    """
    state, sent = _state(workspace, dataset), _sent(_note(workspace, dataset))
    return [remote for remote in remotes if sent.get(remote) != state]


class _Failed(Exception):  # noqa: N818
    """An attempt failed; its words say why."""


def _send_patiently(
    workspace: Workspace,
    remote: str,
    targets: list[str],
    on_line: Callable[[str], None],
    *,
    what: str,
) -> None:
    for wait in _waits():
        try:
            return _send(workspace, remote, targets, on_line)
        except _Failed as failed:
            if wait is None:
                raise RunError(
                    f"DVC's remote {remote}: sending {what} still failed after "
                    f"{PATIENCE_SECONDS / 60:g} minutes: {failed}; "
                    "the next retraining sends what is missing"
                ) from None
            on_line(f"remote {remote}: {failed}; again in {wait:g} s")
            time.sleep(wait)
    return None


def _send(
    workspace: Workspace, remote: str, targets: list[str], on_line: Callable[[str], None]
) -> None:
    lacking = False

    def read(line: str) -> None:
        nonlocal lacking
        lacking = lacking or _MISSING in line  # for DVC a warning
        if match := _BAR.search(line):
            on_line(match["count"])

    # DVC draws its bars on a terminal only, unless told to.
    hours = load(workspace.params).retrain.stage_hours
    try:
        finished = processes.run(
            (*processes.DVC, "--wait-for-lock", "push", "--remote", remote, *targets),
            cwd=workspace.root,
            on_line=read,
            variables={"DVC_IGNORE_ISATTY": "1"},
            limit=3600 * hours,
        )
    except processes.TimeLimitError as late:
        raise RunError(
            f"DVC's remote {remote}: sending {late} (retrain.stage_hours); the next retraining "
            "sends what is missing"
        ) from None
    if finished.code != 0:
        raise _Failed(_words(finished))
    if lacking:
        raise RunError(
            f"DVC's remote {remote}: files of {targets[0]} or its stages are neither there nor in "
            f"the cache; dvc status --cloud --remote {remote} names them"
        )


def _waits() -> Iterator[float | None]:
    """Seconds to wait after each failed attempt; None: it was the last."""
    wait, left = FIRST_WAIT_SECONDS, PATIENCE_SECONDS
    while left > 0:
        yield min(wait, left)
        left -= wait
        wait *= 2
    yield None


def _targets(workspace: Workspace, dataset: str) -> list[str]:
    pointers = [workspace.pointer(dataset)]
    if (networks := workspace.networks_pointer(dataset)).is_file():
        pointers.append(networks)
    named = (pointer.relative_to(workspace.root).as_posix() for pointer in pointers)
    return [*named, *_stages(workspace, dataset)]


def _stages(workspace: Workspace, dataset: str) -> list[str]:
    """Those that dvc.yaml has and dvc.lock knows."""
    known = lock.entries(workspace)
    names = lock.stage_names(dataset, load(workspace.params).variants)
    return [name for name in names if name in known]


def _state(workspace: Workspace, dataset: str) -> str:
    """sha256 of what a push would send."""
    exams, networks = lock.version(workspace, dataset), lock.networks_version(workspace, dataset)
    found = lock.stage_hash(workspace, *_stages(workspace, dataset))
    return hashlib.sha256(f"{exams} {networks} {found}".encode()).hexdigest()


def _note(workspace: Workspace, dataset: str) -> Path:
    return workspace.state / "pushed" / f"{dataset}.json"


def _sent(note: Path) -> dict[str, str]:
    """The `_state` that each remote was sent last."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # at worst it is sent once more
        return {}


def _words(finished: processes.Finished) -> str:
    """What DVC says failed, and why the last file did, without passwords."""
    said = [line.strip() for line in finished.lines if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    last = (errors or said or [f"exit code {finished.code}"])[-1]
    reasons = [match["why"] for line in errors if (match := _FILE.match(line))]
    why = f" ({reasons[-1]})" if reasons else ""
    return without_credentials(last.removeprefix(_PREFIX) + why)

"""The last attempt of `keyslice serve` at each dataset, in state/service: a kill leaves it begun.

Prefect's server holds its own record of runs. This one says what is left to do, also when that
server is away, new, or was killed together with the run.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psutil

from keyslice import files
from keyslice.config import Workspace
from keyslice.stages.running import alive, identity

TIMES = {"begun", "due", "ended"}
Outcome = Literal["", "nothing new", "retrained", "failed", "cancelled", "stopped", "given up"]


@dataclass(frozen=True)
class Attempt:
    """At retraining a dataset.

    Args:
        why: schedule, arrival, made up, resumed, or by hand; with a number where it says one.
        begun: UTC.
        process: that made it; see `keyslice.stages.running.identity`.
        run: its id in Prefect.
        due: UTC; when it was to begin, by Prefect, which lets runs begin up to a second early.
        ended: UTC; None: it runs, or was cut off.
        outcome: empty as long as it has not ended.
        cut_off: how many attempts before this one, without an end in between, were cut off.
    """

    why: str
    begun: datetime
    process: dict[str, Any] | None
    run: str = ""
    due: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome = ""
    cut_off: int = 0

    @property
    def was_cut_off(self) -> bool:
        """Whether its process is gone and had no time to say how it ended."""
        return self.ended is None and alive(self.process) is None

    @property
    def open(self) -> bool:
        """Whether it is to be resumed: it was cut off, or stopped with the service."""
        return self.was_cut_off or self.outcome == "stopped"

    @property
    def words(self) -> str:
        """`schedule, runs since 02:00` or `schedule, retrained, took 1:02:03`."""
        if self.ended is not None:
            took = timedelta(seconds=round((self.ended - self.begun).total_seconds()))
            return f"{self.why}; {self.outcome}, took {took}"
        state = "was cut off" if self.was_cut_off else f"runs since {self.begun:%H:%M} UTC"
        return f"{self.why}; {state}"


def begin(
    workspace: Workspace, dataset: str, why: str, run: str, due: datetime | None = None
) -> Attempt:
    """Note that this process begins one."""
    before = last(workspace, dataset)
    cut_off = before.cut_off + before.was_cut_off if before is not None and before.open else 0
    process = identity(psutil.Process())
    attempt = Attempt(why, datetime.now(UTC), process, run, due, cut_off=cut_off)
    _write(workspace, dataset, attempt)
    return attempt


def end(workspace: Workspace, dataset: str, attempt: Attempt, outcome: Outcome) -> None:
    """Note how it ended."""
    values = {**vars(attempt), "ended": datetime.now(UTC), "outcome": outcome}
    _write(workspace, dataset, Attempt(**values))


def last(workspace: Workspace, dataset: str) -> Attempt | None:
    """None where there was none, or its note is damaged: then a retraining does no harm."""
    try:
        found = json.loads(_path(workspace, dataset).read_text(encoding="utf-8"))
        for name in TIMES.intersection(found):
            found[name] = found[name] and datetime.fromisoformat(found[name])
        return Attempt(**found)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _write(workspace: Workspace, dataset: str, attempt: Attempt) -> None:
    values = asdict(attempt)
    for name in TIMES:
        values[name] = values[name] and values[name].isoformat()
    files.write_text(_path(workspace, dataset), json.dumps(values))


def _path(workspace: Workspace, dataset: str) -> Path:
    return workspace.state / "service" / f"{dataset}.json"

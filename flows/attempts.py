"""The last attempt of `keyslice serve` at each dataset, in state/service: a kill leaves it begun.

Prefect's server holds its own record of runs. This one says what is left to do, also when that
server is away, new, or was killed together with the run.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psutil

from keyslice import files
from keyslice.config import Workspace
from keyslice.stages.running import alive, identity

TIMES = {"begun", "due", "ended"}
RESUMED = "resumed"
"""How `why` begins where an attempt goes on with the one before."""
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
        result: what a retraining came to, in words.
        first: `why` of the first of a row of attempts that were resumed; empty: of this one.
        cut_off: how many attempts before this one, without an end in between, were cut off.
    """

    why: str
    begun: datetime
    process: dict[str, Any] | None
    run: str = ""
    due: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome = ""
    result: str = ""
    first: str = ""
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
        """`schedule; runs since 02:00 UTC` or `schedule; retrained: version 3, took 1:02:03`."""
        if self.ended is not None:
            took = timedelta(seconds=round((self.ended - self.begun).total_seconds()))
            ended = f"{self.outcome}: {self.result}" if self.result else self.outcome
            return f"{self.why}; {ended}, took {took}"
        state = "was cut off" if self.was_cut_off else f"runs since {self.begun:%H:%M} UTC"
        return f"{self.why}; {state}"


def begin(
    workspace: Workspace, dataset: str, why: str, run: str, due: datetime | None = None
) -> Attempt:
    """Note that this process begins one."""
    before, cut_off, first = last(workspace, dataset), 0, ""
    if before is not None and before.open:
        cut_off = before.cut_off + before.was_cut_off
        if why.startswith(RESUMED):
            first = before.first or before.why
    process = identity(psutil.Process())
    attempt = Attempt(why, datetime.now(UTC), process, run, due, first=first, cut_off=cut_off)
    _write(workspace, dataset, attempt)
    return attempt


def end(
    workspace: Workspace, dataset: str, attempt: Attempt, outcome: Outcome, result: str = ""
) -> None:
    """Note how it ended."""
    ended = replace(attempt, ended=datetime.now(UTC), outcome=outcome, result=result)
    _write(workspace, dataset, ended)


def last(workspace: Workspace, dataset: str) -> Attempt | None:
    """None where there was none, or its note is damaged: then a retraining does no harm."""
    try:
        found = json.loads(_path(workspace, dataset).read_text(encoding="utf-8"))
        for name in TIMES.intersection(found):
            found[name] = found[name] and datetime.fromisoformat(found[name])
        return Attempt(**found)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def known(workspace: Workspace) -> list[str]:
    """The datasets that have a note."""
    notes = (workspace.state / "service").glob("*.json")
    return sorted(one.stem for one in notes if not one.stem.endswith(".schedule"))


def _write(workspace: Workspace, dataset: str, attempt: Attempt) -> None:
    values = asdict(attempt)
    for name in TIMES:
        values[name] = values[name] and values[name].isoformat()
    files.write_text(_path(workspace, dataset), json.dumps(values))


def _path(workspace: Workspace, dataset: str) -> Path:
    return workspace.state / "service" / f"{dataset}.json"

"""Decides, minute by minute, whether a dataset is to be retrained outside its schedule.

What it goes by is what lies there (the inbox, the note of the last attempt), never what was said
once: an order that got lost, or a kill, delays a retraining and loses none.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from flows import attempts
from flows.times import next_after
from keyslice import files
from keyslice.config import FolderDataset, RetrainOfOne, Workspace
from keyslice.exams.fingerprint import folder_of
from keyslice.exams.pulse import Pulse
from keyslice.stages.running import retraining_of, under_way

PATIENCE = 300.0
"""Seconds that an order may take until a run begins, before it is given again, unless it waits in
Prefect's queue; twice as many after each that came to nothing."""
MOST_DOUBLED = 4
"""Times: an hour and twenty minutes."""
LATE = timedelta(minutes=2)
"""After its time, a schedule that no run has begun for counts as missed."""

Kind = Literal["arrival", "resumed", "made up", "given up"]
Order = tuple[Kind, str]
"""What it is for and, in words, why."""
Count = Callable[[str], set[str]]
"""Stamps of the new exams of a dataset; see `keyslice.exams.news`."""


class Watch:
    """Watches over one dataset.

    Args:
        workspace: that holds it.
        name: of the dataset.
        dataset: its settings if its source is a folder, which can be watched.
        settings: section retrain for it.
        count: counts new exams; called when something has moved, and has come to rest.
        clock: seconds, never set back.
        now: the time, with its zone.
    """

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        dataset: FolderDataset | None,
        settings: RetrainOfOne,
        count: Count,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._workspace, self._name, self._settings = workspace, name, settings
        self._count, self._now = count, now
        self._pulse: Pulse | None = None
        if dataset is not None and settings.watch:
            folder = folder_of(workspace, name, dataset)
            quiet = 60 * settings.quiet_minutes
            self._pulse = Pulse(folder, folder / dataset.labels, quiet, clock)
        self._clock = clock
        self._given: tuple[float, attempts.Attempt | None] | None = None
        self._in_vain = 0
        self._found: set[str] = set()
        self._counted = ""
        self._answered: set[str] = set()
        self._since = self._schedule_since()
        self._ahead: datetime | None = None
        self._due: tuple[datetime, datetime] | None = None

    @property
    def lost(self) -> bool:
        """Whether an order has come to nothing: the next one is to go another way."""
        patience = PATIENCE * 2 ** min(self._in_vain, MOST_DOUBLED)
        return self._given is not None and self._clock() - self._given[0] >= patience

    def look(self) -> Order | None:
        """What is to be done now, if anything; `given` says that it was seen to.

        Raises:
            UserError, RunError: new exams could not be counted.
        """
        if any(one.name == retraining_of(self._name) for one in under_way(self._workspace)):
            return None
        last = attempts.last(self._workspace, self._name)
        if self._given is not None:
            if not _same(last, self._given[1]):  # a run has begun: what it has left is counted anew
                self._given, self._counted, self._in_vain = None, "", 0
            elif not self.lost:
                return None
        return self._cut_off(last) or self._missed(last, self._now()) or self._arrived()

    def given(self, order: Order) -> None:
        """Note that an order of `look` is on its way."""
        self._in_vain += self.lost
        self._given = self._clock(), attempts.last(self._workspace, self._name)
        if order[0] == "arrival":
            # Once: an ingestion may have a reason to leave them where they are.
            self._answered |= self._found

    def _cut_off(self, last: attempts.Attempt | None) -> Order | None:
        if last is None or not last.open:
            return None
        how = "was cut off" if last.was_cut_off else "was stopped"
        told = f"the run of {last.begun:%Y-%m-%d %H:%M} UTC ({last.first or last.why}) {how}"
        if last.was_cut_off and (times := last.cut_off + 1) >= self._settings.attempts:
            why = f"given up: {told}, {times} in a row; Prefect's page and state/logs tell more"
            return "given up", why
        return "resumed", f"{attempts.RESUMED}: {told}"

    def _missed(self, last: attempts.Attempt | None, now: datetime) -> Order | None:
        schedule = self._settings.schedule
        if schedule is None:
            return None
        ran = max(last.begun, last.due or last.begun) if last else self._since
        since = self._noticed(max(self._since, ran), now)
        if self._due is None or self._due[0] != since:
            self._due = since, next_after(schedule, since)
        due = self._due[1]
        if now < due + LATE:
            return None
        return "made up", f"made up: nothing ran at {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    def _noticed(self, time: datetime, now: datetime) -> datetime:
        """A time; one that lies ahead, since the clock was set back, counts as when it is seen."""
        if time <= now:
            self._ahead = None
            return time
        self._ahead = min(self._ahead or now, now)
        return self._ahead

    def _arrived(self) -> Order | None:
        digest = self._pulse.look() if self._pulse is not None else None
        if digest is None:
            return None
        if digest != self._counted:
            self._found, self._counted = self._count(self._name), digest
        # Of an order that got lost, what it was given for is there still.
        new = len(self._found if self.lost else self._found - self._answered)
        if new < self._settings.minimum_new_exams:
            return None
        return "arrival", f"arrival: {new} new {'exam' if new == 1 else 'exams'}"

    def _schedule_since(self) -> datetime:
        """Since when the schedule is as it is now; what was due before is not made up."""
        schedule, path = self._settings.schedule, self._path
        if schedule is None:
            path.unlink(missing_ok=True)
            return self._now()
        told = schedule.model_dump(mode="json")
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            if noted["schedule"] == told:
                return datetime.fromisoformat(noted["since"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            pass
        since = self._now()
        entry = {"schedule": told, "since": since.isoformat()}
        files.write_text(path, json.dumps(entry))
        return since

    @property
    def _path(self) -> Path:
        return self._workspace.state / "service" / f"{self._name}.schedule.json"


def _same(one: attempts.Attempt | None, other: attempts.Attempt | None) -> bool:
    """Whether they are the same attempt, ended or not; told by clocks, they might not be."""
    return (one and (one.run, one.begun)) == (other and (other.run, other.begun))

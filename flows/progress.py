"""What the terminal shows of a retraining: which steps run, which are done, how long they took."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import inf
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from keyslice import versioning

PLAIN_SECONDS = 60.0
"""Off a terminal, from one line of a running step to the next, at least."""

_log = logging.getLogger(__name__)
_MARKS = {
    "failed": "[red]✗[/]",
    "stopped": "[yellow]✗[/]",
    "unchanged": "[dim]·[/]",
    "restored": "[green]✓[/]",
}


class Step:
    """One step under way.

    Args:
        name: what is shown.
        display: that shows it; None: nothing is.
    """

    def __init__(self, name: str, display: "Display | None") -> None:
        self.name = name
        self.outcome = ""
        """Said when it is done: ran, restored, unchanged, or what it made."""
        self.detail = ""
        """Said below it when it is done."""
        self._display = display
        self._logged = -inf

    def progress(self, text: str) -> None:
        """Show how far it is, in place of what was shown before."""
        if self._display is not None:
            self._display.moved(self, text)
        now = time.monotonic()
        if now - self._logged >= PLAIN_SECONDS:
            self._logged = now
            self.log(text)

    def log(self, text: str) -> None:
        """Put a line on the page of the Prefect run that this step is part of, if of any."""
        if "prefect" not in sys.modules:
            return
        from prefect import get_run_logger
        from prefect.exceptions import MissingContextError

        with suppress(MissingContextError):
            get_run_logger().info(f"{self.name}: {text}")


class Display:
    """Running steps as moving lines at the bottom; a line above for each that is done.

    Off a terminal nothing moves: a running step says how far it is every PLAIN_SECONDS.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._lines: dict[Step, TaskID] = {}
        self._said: dict[Step, float] = {}
        one_line = Column(no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=one_line),
            TextColumn("[dim]{task.fields[far]}[/]", table_column=one_line.copy()),
            TimeElapsedColumn(),
            console=console,
        )
        self._live = Live(self._progress, console=console, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self._live.stop()

    def started(self, step: Step) -> None:
        self._lines[step] = self._progress.add_task(step.name, total=None, far="")

    def moved(self, step: Step, text: str) -> None:
        self._progress.update(self._lines[step], far=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said.get(step, -inf) >= PLAIN_SECONDS:
            self._said[step] = now
            with self._lock:
                self._console.print(f"… {step.name}  {text}", highlight=False, soft_wrap=True)

    def finished(self, step: Step, seconds: float) -> None:
        self._progress.remove_task(self._lines.pop(step))
        minutes, rest = divmod(round(seconds), 60)
        mark = _MARKS.get(step.outcome, "[green]✓[/]")
        with self._lock:
            self._console.print(
                f"{mark} {step.name:<44.44} {step.outcome:<14.14} {minutes:3d}:{rest:02d}",
                highlight=False,
            )
            if step.detail:
                self._console.print(f"  {step.detail}", highlight=False, soft_wrap=True)


_current: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Show a step for as long as the block runs; the block may set its `outcome`.

    Found through the context, which thread runners copy; elsewhere (on Dask) nothing is shown.
    """
    display, start = _current.get(), time.monotonic()
    shown = Step(name, display)
    if display is not None:
        display.started(shown)
    try:
        yield shown
    except BaseException:
        shown.outcome = "stopped" if versioning.children_ended() else "failed"
        raise
    finally:
        told = "; ".join(part for part in (shown.outcome, shown.detail) if part)
        if told:
            shown.log(told)
        if display is not None:
            display.finished(shown, time.monotonic() - start)


@contextmanager
def on_page() -> Iterator[None]:
    """For what Prefect's page shows besides: where it cannot, no retraining fails."""
    try:
        yield
    except Exception:  # whatever its client raises
        _log.warning("Prefect's page lacks a table", exc_info=True)

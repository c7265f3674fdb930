"""What the terminal shows of a retraining: which steps run, which are done, how long they took."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_MARKS = {"failed": "[red]✗[/]", "unchanged": "[dim]·[/]", "restored": "[green]✓[/]"}


@dataclass
class Step:
    """One step under way."""

    name: str
    outcome: str = ""
    """Said when it is done: ran, restored, unchanged, or what it made."""


class Display:
    """Running steps as moving lines at the bottom; a line above for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
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

    def started(self, name: str) -> TaskID:
        return self._progress.add_task(name, total=None)

    def finished(self, line: TaskID, step: Step, seconds: float) -> None:
        self._progress.remove_task(line)
        minutes, rest = divmod(round(seconds), 60)
        mark = _MARKS.get(step.outcome, "[green]✓[/]")
        with self._lock:
            self._console.print(
                f"{mark} {step.name:<44.44} {step.outcome:<14.14} {minutes:3d}:{rest:02d}",
                highlight=False,
            )


_current: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Show a step for as long as the block runs; the block may set its `outcome`.

    Found through the context, which thread runners copy; elsewhere (on Dask) nothing is shown.
    """
    shown, display, start = Step(name), _current.get(), time.monotonic()
    line = display.started(name) if display else None
    try:
        yield shown
    except BaseException:
        shown.outcome = "failed"
        raise
    finally:
        if display is not None and line is not None:
            display.finished(line, shown, time.monotonic() - start)

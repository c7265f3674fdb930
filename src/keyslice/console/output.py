"""The terminal: one console for words, standard output alone for what was asked for."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from keyslice.errors import RunError, UserError, without_credentials

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """To standard output, nothing else beside it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(console: Console, text: str | Text) -> None:
    """A line that a terminal wraps between words, and a pipe gets whole."""
    console.print(text, soft_wrap=not console.is_terminal)


def tell(line: str) -> None:
    """A line beside what was asked for."""
    say(err, Text(line))


def end_with(problems: Sequence[UserError | RunError]) -> None:
    """Tell all but the last, and raise that; where there are none, nothing."""
    for problem in problems[:-1]:
        kind = "error" if isinstance(problem, UserError) else "failed"
        tell(without_credentials(" ".join(f"{kind}: {problem}".split())))
    if problems:
        raise problems[-1]


def bar() -> Progress:
    """A progress bar that shows on a terminal only and leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )

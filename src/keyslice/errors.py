"""The error a user sees: one line that says what, where, the rule and the way out."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in settings or input that its maker can mend; ends a command with exit code 2.

    Args:
        what: what is wrong, naming the value.
        where: the key, file or option that holds it.
        rule: what would have been right.
        remedy: what to do now.
    """

    def __init__(self, what: str, *, where: str = "", rule: str = "", remedy: str = "") -> None:
        parts = [f"{where}: {what}" if where else what, rule, remedy]
        # One line, whatever a library's own message brought along.
        super().__init__(" ".join("; ".join(part for part in parts if part).split()))


class RunError(Exception):
    """Something failed that is nobody's mistake: one line, exit code 1; the log has the rest."""


class StoppedError(RunError):
    """Somebody stopped it, by Ctrl-C or a signal: exit code 130, as shells have it."""


def without_credentials(text: str) -> str:
    """`text` with the user and password of every address in it left out."""
    return re.sub(r"://[^/\s]*@", "://", text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest known one, else the list of all."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else "none is known yet"

"""What nobody foresaw: one line for the person, where it happened for whoever mends it."""

import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import UserError

LOG = Path("state") / "logs" / "crashes.log"
"""Below a workspace."""


def told(error: Exception) -> str:
    """The line to show; the lines of code that led to it are added to LOG.

    The log has no messages: they may hold the name of a file or a patient, or a password.
    """
    line = f"{type(error).__name__}: {' '.join(str(error).split())}"
    try:
        file = Workspace.find().root / LOG
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n{_places(error)}\n")
    except (UserError, OSError):  # outside a workspace, or on a full disk
        sys.stderr.write(_places(error))
        return line
    return f"{line}; where it happened is in {LOG}"


def _places(error: BaseException) -> str:
    """The traceback without messages, the cause before its consequence."""
    cause = error.__cause__ or error.__context__
    own = "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n"
    return (f"{_places(cause)}which led to\n" if cause else "") + own

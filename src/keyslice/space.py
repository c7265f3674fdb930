"""Whether something failed because a disk is full, in whatever words its library says so."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from keyslice.errors import RunError, UserError

LEAST = 64 * 2**20
"""Bytes. Where fewer are free, a failure counts as the disk's, whatever it says of itself: torch,
for one, does not name its reason."""
_WORDS = re.compile(r"no space left on device|disk is full|quota exceeded", re.IGNORECASE)
"""Of the system, which most libraries pass on, and of SQLite."""


class NoSpaceError(RunError):
    """A disk is full."""


def says(error: BaseException) -> bool:
    """Whether an error, or what led to it, tells of a full disk."""
    return any(_WORDS.search(str(one)) for one in _with_causes(error))


def explained(folder: Path, error: BaseException) -> NoSpaceError | None:
    """The error to tell in place of `error` where a full disk is behind it; None: it is not.

    Args:
        folder: on the disk that is asked.
        error: what something failed with. A mistake of a person's counts only where it says so.
    """
    if isinstance(error, NoSpaceError):
        return error
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # the folder is gone
        return None
    if not says(error) and (isinstance(error, UserError) or free >= LEAST):
        return None
    told = (
        f"no space left on device ({free / 1e6:.0f} MB are free where the workspace lies); "
        "make space and run it again: what is complete is kept"
    )
    if says(error) and free < LEAST:
        return NoSpaceError(told)
    return NoSpaceError(f"{told}; what failed said: {_first_words(error)}")


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _first_words(error: BaseException) -> str:
    """Without the path that an OSError ends with: it may be a patient's file."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split())[:200]

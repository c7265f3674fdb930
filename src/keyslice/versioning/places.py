"""Places below a folder where stages run, one process in each at a time; several may share it."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout

from keyslice.config import Workspace

CHECKPOINTS = Path("state") / "checkpoints"
"""All that stays of a place: a stage that was cut off there goes on from them."""
_NUMBERED = "[0-9]*.lock"


@contextmanager
def place(base: Path, variant: Path) -> Iterator[Workspace]:
    """A folder that no other process works in: one that holds checkpoints of the variant first.

    What `base` holds besides, places have in common; meanwhile it is not cleared.
    """
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _held(base, fcntl.LOCK_SH):
        known = sorted(base.glob(_NUMBERED))
        begun = [one for one in known if (one.with_suffix("") / CHECKPOINTS / variant).is_dir()]
        others = (base / f"{number}.lock" for number in count())
        first = (*begun, *(one for one in known if one not in begun))
        guard = next(one for path in chain(first, others) if _taken(one := FileLock(path)))
        try:
            yield Workspace(Path(guard.lock_file).with_suffix(""))
        finally:
            guard.release()


def _taken(guard: FileLock) -> bool:
    try:
        guard.acquire(timeout=0)
    except Timeout:
        return False
    return True


@contextmanager
def _held(base: Path, how: int) -> Iterator[None]:
    """Hold the folder: LOCK_SH with others that run stages there, LOCK_EX alone.

    Raises:
        BlockingIOError: it is held otherwise, and `how` has LOCK_NB.
    """
    with (base / "folder.lock").open("a") as file:  # closing it lets go
        fcntl.flock(file, how)
        yield


def clear(base: Path) -> None:
    """Remove the data below `base`, checkpoints apart; places in use are left, with the data.

    A stage that is to begin meanwhile waits until it is done.
    """
    if not base.is_dir():
        return
    try:
        with _held(base, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for number in base.glob(_NUMBERED):
                empty(number.with_suffix(""), CHECKPOINTS)
            if (base / "cache").exists():
                shutil.rmtree(base / "cache")
    except BlockingIOError:
        for number in base.glob(_NUMBERED):
            if _taken(guard := FileLock(number)):
                try:
                    empty(number.with_suffix(""), CHECKPOINTS)
                finally:
                    guard.release()


def empty(folder: Path, kept: Path) -> None:
    """Remove all in a folder but what lies at `kept` below it."""
    if not folder.is_dir():
        return
    first, *rest = kept.parts
    for path in folder.iterdir():
        if path.name == first:
            if rest:
                empty(path, Path(*rest))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

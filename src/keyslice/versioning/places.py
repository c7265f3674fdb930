"""Places below a folder where stages run, one process in each at a time; several may share it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from keyslice.config import Workspace

CHECKPOINTS = Path("state") / "checkpoints"
"""All that stays of a place: a stage that was cut off there goes on from them."""


@contextmanager
def place(base: Path, variant: Path) -> Iterator[Workspace]:
    """A folder that no other process works in: one that holds checkpoints of the variant first."""
    known = sorted(base.glob("*.lock"))
    begun = [one for one in known if (one.with_suffix("") / CHECKPOINTS / variant).is_dir()]
    others = (base / f"{number}.lock" for number in count())
    for path in (*begun, *(one for one in known if one not in begun)):
        guard = FileLock(path)
        if _taken(guard):
            break
    else:
        guard = next(one for path in others if _taken(one := FileLock(path)))
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


def clear(base: Path) -> None:
    """Remove the data below `base`, checkpoints apart; places in use are left, with the data."""
    with ExitStack() as held:
        idle = True
        for number in sorted(base.glob("*.lock")):
            guard = FileLock(number)
            try:
                guard.acquire(timeout=0)
            except Timeout:
                idle = False
                continue
            held.callback(guard.release)
            empty(number.with_suffix(""), CHECKPOINTS)
        if idle and (base / "cache").exists():
            shutil.rmtree(base / "cache")


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

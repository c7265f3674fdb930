"""What a stage has read must be what DVC records: its inputs hold still while it runs."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keyslice.errors import UserError


@contextmanager
def held_still(*inputs: Path) -> Iterator[Callable[[], None]]:
    """Read the bytes of `inputs` before and after the block.

    DVC hashes a stage's inputs when the stage has ended: what came in meanwhile would count as
    having been there from the start.

    Yields:
        The same check for in between, where something is kept before the end.

    Raises:
        UserError: one of them has changed, or is gone; the stage's results must not be recorded.
    """
    before = {file: _digest(file) for file in inputs}

    def check() -> None:
        for file, digest in before.items():
            if _digest(file) != digest:
                raise _changed("/".join(file.parts[-3:]))

    yield check
    check()


@contextmanager
def unchanged(ask: Callable[[], object], where: str) -> Iterator[None]:
    """`held_still` for a part of a file, which `ask` reads."""
    before = ask()
    yield
    if ask() != before:
        raise _changed(where)


def _changed(where: str) -> UserError:
    return UserError(
        "changed while it was being read",
        where=where,
        rule="what DVC records must be what a stage has read",
        remedy="run it again",
    )


def _digest(file: Path) -> bytes | None:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except FileNotFoundError:
        return None

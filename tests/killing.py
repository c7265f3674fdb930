"""Work in a process of its own, which a test kills at a step of its choice."""

import os
import signal
from collections.abc import Callable
from typing import NoReturn


def killed(work: Callable[[], object]) -> bool:
    """Whether a fork that does the work was ended by -9; else it has done it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def die() -> NoReturn:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("outlived it")

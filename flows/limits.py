"""An end to what may hang in the operating system, out of reach of any exception."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.utilities.timeout import timeout

GRACE = 60.0
"""Seconds from the exception to the end of the process."""


class _LateError(TimeoutError):
    """In the block of `limited`."""


@contextmanager
def limited(seconds: float, late: Exception) -> Iterator[None]:
    """Raise `late` where the block has not ended after `seconds`.

    A share that does not answer may hold a thread where only SIGKILL reaches it: then this process
    is ended by that, GRACE later. It counts as cut off: it is resumed, and after `retrain.attempts`
    times given up and told of.
    """
    over = threading.Event()

    def end() -> None:
        if not over.wait(seconds + GRACE):
            sys.stderr.write(f"{late}; this process is ended: nothing else reaches it\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, name="limited", daemon=True).start()
    try:
        with timeout(seconds, _LateError):
            yield
    except _LateError:
        raise late from None
    finally:
        over.set()

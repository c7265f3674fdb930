"""The signals by which a process is asked to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT and SIGHUP, but for those that whoever started it wants ignored.

    So does `nohup` the last one, and a script that of Ctrl-C for what it starts in the background.
    """
    every = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # None: what handles it was set by other than Python, and could not be set back.
    return tuple(one for one in every if signal.getsignal(one) not in (signal.SIG_IGN, None))


@contextmanager
def interruptible() -> Iterator[None]:
    """Each of `signals` is what Ctrl-C is, KeyboardInterrupt, while the block runs.

    So that what is under way is ended in order. In the main thread alone, which hears of them.
    """

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    before = {one: signal.signal(one, interrupt) for one in signals() * here}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

"""The signals by which a process is asked to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT and SIGHUP, the last unless whoever started it wants it ignored (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    hangup = () if ignored else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup)


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

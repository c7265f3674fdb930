"""The signals by which a process that goes on until it is ended is asked to end."""

import signal


def signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT and SIGHUP, the last unless whoever started it wants it ignored (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    hangup = () if ignored else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup)

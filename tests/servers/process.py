"""A server as a process: started, asked until it answers, ended with all that it started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).parents[2]
"""From where `python -m tests.servers.…` is found."""
PATIENCE = 120.0
"""Seconds until a server must answer."""
GRACE = 15.0
"""Seconds that a server has to end by itself when asked to."""


def free_port() -> int:
    """That nothing listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def answers(url: str) -> bool:
    """Whether a page is there, be it one that asks for a password first."""
    try:
        with urlopen(url, timeout=5):
            return True
    except HTTPError as error:
        return error.code == 401
    except (URLError, OSError):
        return False


class Server:
    """Not started yet; `started` starts it for a block.

    Args:
        command: that runs until it is ended.
        healthy: whether it answers.
        log: of what it says; added to at each start.
        port: that it listens on.
        variables: added to its environment.
        cwd: where it runs.
        popen: further arguments of `subprocess.Popen`.
    """

    request = signal.SIGTERM
    """To end."""

    def __init__(
        self,
        command: Sequence[str],
        healthy: Callable[[], bool],
        log: Path,
        *,
        port: int,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        **popen: Any,
    ) -> None:
        self.command, self.healthy, self.log = command, healthy, log
        self.port = port
        self._variables, self._cwd, self._popen = variables or {}, cwd or log.parent, popen
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def started(self) -> Iterator[Self]:
        """Running in the block; nothing of it is left afterwards."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Returns when it answers.

        Raises:
            RuntimeError: it ended, or has not answered within PATIENCE; with the end of its log.
        """
        with self.log.open("ab") as log:
            process = self._process = subprocess.Popen[bytes](
                self.command,
                env=os.environ | dict(self._variables),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._popen,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.command[0]} does not answer:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, and end what is left of it."""
        family = self._family()
        if self._process is not None:
            self._process.send_signal(self.request)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        self._kill(family)

    def kill(self) -> None:
        """-9 for it and all that it started, in whichever groups."""
        self._kill(self._family())

    def _kill(self, family: Sequence[psutil.Process]) -> None:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=GRACE)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def _family(self) -> list[psutil.Process]:
        return [] if self._process is None else [*_family(self._process.pid)]


def _family(pid: int) -> Iterator[psutil.Process]:
    """A process, its descendants, and what is left of its session."""
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        yield leader
        yield from leader.children(recursive=True)
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if process.pid != pid and os.getsid(process.pid) == pid:
                yield process

"""Starts programs, watches over them, and ends them in the order in which they need each other."""

import contextvars
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from keyslice import ending, versioning
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.health import STARTUP_SECONDS, WELL, health
from keyslice.services.programs import SERVING, Program

REMINDER_SECONDS = 60.0
"""From one word about a server that does not answer yet to the next."""
STOP_SECONDS = 60.0
"""That the serving process has to end its runs, before it is ended by force."""
LONGEST_PAUSE = 60.0
"""Between two starts of a program that keeps ending."""
STEADY_SECONDS = 300.0
"""After this long a program that ends counts as one that ran."""

Tell = Callable[[str], None]


def healthy(program: Program) -> bool:
    """Whether its server answers as one that is well; True of a program without one."""
    own = program.command is not None
    return not program.health or health(program.health, own=own) == WELL


def check_ports(programs: Sequence[Program], host: str) -> None:
    """Raises UserError: something else has a port that a program is to open."""
    for program in programs:
        if program.command is None or not program.port:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, program.port))
            except OSError as error:
                raise UserError(
                    f"{host}:{program.port} cannot be opened ({error.strerror})",
                    where=f"service.{program.name.lower()}_port",
                    rule=f"{program.name}'s server has it for itself",
                    remedy="end what has it, or set another port in params.yaml",
                ) from None


@dataclass
class _Running:
    """A program, and its process while it has one."""

    program: Program
    pid: int | None = None


class Supervisor:
    """Keeps programs running.

    One that ends is started anew, after a pause that doubles up to LONGEST_PAUSE.

    Args:
        workspace: whose folder they run in; their output goes to state/logs.
        programs: in the order in which they are needed.
        tell: shows a line.
        echo: shows a line that the serving process has told.
    """

    def __init__(
        self, workspace: Workspace, programs: Sequence[Program], tell: Tell, echo: Tell
    ) -> None:
        self._workspace = workspace
        self._tell, self._echo = _at_ease(tell), _at_ease(echo)
        self._running = [_Running(program) for program in programs]
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until `stop`; then all of them have ended.

        Raises:
            RunError: a server does not answer within STARTUP_SECONDS, and has ended, or is somebody
                else's.
        """
        with versioning.children():
            try:
                servers = [one for one in self._running if one.program.name != SERVING]
                for one in servers:
                    self._start(one)
                for one in servers:
                    self._await(one)
                for one in self._running:
                    if one.program.name == SERVING and not self._stopping.is_set():
                        self._start(one)
                self._stopping.wait()
            finally:
                self._stopping.set()
                self._end_serving()

    def stop(self) -> None:
        """Let `run` end; may be called by a signal's handler."""
        self._stopping.set()

    def _start(self, one: _Running) -> None:
        if one.program.command is None:
            return
        context = contextvars.copy_context()  # of the children that end with this block
        threading.Thread(target=context.run, args=(self._keep, one), daemon=True).start()

    def _keep(self, one: _Running) -> None:
        """Run it until `stop`, whatever happens: nobody would start it again after this thread."""
        command, name = one.program.command, one.program.name
        assert command is not None
        pause, log = 1.0, self._workspace.state / "logs" / f"{name.lower()}.log"
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                ended = versioning.run(
                    command,
                    cwd=self._workspace.root,
                    log=log,
                    on_line=self._echo if name == SERVING else None,
                    variables=one.program.variables,
                    on_start=lambda pid: setattr(one, "pid", pid),
                )
            except versioning.ChildrenEndedError:
                break
            except Exception as error:  # the disk is full, for one; it will not be for ever
                cause = getattr(error, "strerror", None) or error or type(error).__name__
                told, why = f"{name} could not be started ({cause})", ""
            else:
                last = next((line for line in reversed(ended.lines) if line.strip()), "")
                why = f": {last}" if ended.code > 0 and last else ""  # a signal leaves no words
                told = f"{name} ended (exit code {ended.code})"
            one.pid = None
            if self._stopping.is_set():
                break
            pause = 1.0 if time.monotonic() - begun > STEADY_SECONDS else pause
            self._tell(f"{told}, starts again in {pause:g} s{why}")
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _await(self, one: _Running) -> None:
        begun = reminded = time.monotonic()
        name, log = one.program.name, f"see state/logs/{one.program.name.lower()}.log"
        while not healthy(one.program):
            if self._stopping.wait(0.5):
                return
            now = time.monotonic()
            # One that runs may be migrating its database: to end it would leave that in between.
            if now - begun > STARTUP_SECONDS and one.pid is None:
                raise RunError(
                    f"{name} did not answer within {STARTUP_SECONDS:g} s"
                    f"{f'; {log}' if one.program.command else f' at {one.program.page}'}"
                )
            if now - reminded > REMINDER_SECONDS:
                reminded = now
                also = f"; its database may be migrated; {log}" if one.program.command else ""
                self._tell(f"{name} does not answer yet{also}")
        self._tell(f"{name} answers at {one.program.page}")

    def _end_serving(self) -> None:
        """It ends its runs, which tell the servers; so these go on, and so does its group."""
        for one in self._running:
            if one.program.name != SERVING or one.pid is None:
                continue
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(one.pid)
                process.terminate()
                deadline = time.monotonic() + STOP_SECONDS
                # Itself alone: what it leaves holds its output, and is ended with the others.
                while process.status() != psutil.STATUS_ZOMBIE:
                    if time.monotonic() > deadline:
                        self._tell(f"{SERVING} has not ended after {STOP_SECONDS:g} s")
                        break
                    time.sleep(0.05)


def _at_ease(show: Tell) -> Tell:
    """Shows a line where that can be done: for a terminal that is gone no server is to end."""

    def shown(line: str) -> None:
        with suppress(Exception, SystemExit):  # rich ends a program whose pipe is broken
            show(line)

    return shown


@contextmanager
def ended_by_signals(supervisor: Supervisor):
    """`keyslice.ending.signals` stop it while the block runs."""
    before = {}
    for number in ending.signals():
        before[number] = signal.signal(number, lambda *_: supervisor.stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

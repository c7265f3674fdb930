"""Child processes: each leads its own group, so that ending it ends whatever it started."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from keyslice import files
from keyslice.errors import RunError
from keyslice.stages.running import alive, identity
from keyslice.versioning import leash

DVC = (sys.executable, "-m", "dvc")
"""Its command line: what is stable of it."""
GRACE = 10.0
"""Seconds that a group has between the request to end and its end by force."""
CHILDREN = Path("state") / "children"
"""Below a workspace: a note for each child that runs."""
LAST_WORDS = 0.5
"""Seconds from a child's end to that of its output, before what else holds that is ended, too."""
ATTEMPTS = 3
"""At a question that is killed each time."""
TAIL = 200
"""Last lines of output that are kept in memory."""
LOG_BYTES = 1_000_000
"""Of a log that are kept when the next run begins, and when it has grown to twice as much."""

# git and DVC set these for their own children; inherited, they would point at another repository.
_FOREIGN = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX", "DVC_ROOT", "DVC_STAGE")


_LEASH = (sys.executable, "-I", leash.__file__)


class ChildrenEndedError(RuntimeError):
    """No child can be started: those of this work have been ended."""


class TimeLimitError(RunError):
    """A child had not ended by the time it was given."""


@dataclass
class _Family:
    """The children of one piece of work, whichever threads it runs in."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    running: set["subprocess.Popen[str]"] = field(default_factory=set)
    closed: bool = False
    leashed: bool = False


_family: ContextVar[_Family] = ContextVar("family", default=_Family())  # noqa: B039 - shared on purpose


@dataclass(frozen=True)
class Finished:
    """How a child ended."""

    code: int
    """Its exit status; negative: the signal that ended it."""
    lines: tuple[str, ...]
    """The last lines of its standard output and standard error, in the order they came."""


def environment() -> dict[str, str]:
    """What a child sees: this environment's commands first on PATH, and nothing phones home."""
    values = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    # Not resolved: in a virtual environment the interpreter is a link out of it.
    commands = str(Path(sys.executable).parent)
    return values | {
        "PATH": os.pathsep.join([commands, values.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def ask(command: Sequence[str], *, cwd: Path, limit: float | None = None) -> Finished:
    """`run` for what may be begun again: it is, where somebody kills it, ATTEMPTS times in all.

    A system that is short of memory does so.

    Raises: see `run`.
    """
    finished = run(command, cwd=cwd, limit=limit)
    for _ in range(1, ATTEMPTS):
        if finished.code >= 0:
            break
        finished = run(command, cwd=cwd, limit=limit)
    return finished


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    variables: Mapping[str, str] | None = None,
    on_start: Callable[[int], None] | None = None,
    limit: float | None = None,
) -> Finished:
    """Run `command` to its end, its output line by line to the file `log` and to `on_line`.

    The log is added to, and cut to its last LOG_BYTES now and then. `variables` are added to its
    environment. `on_start` is called with its number. After `limit` seconds it is ended. When it
    ends, however, what it has left running in its group is ended, too: it would hold the output.
    Whatever leaves this function early, KeyboardInterrupt included, ends the child's whole group.

    Raises:
        ChildrenEndedError: the surrounding `children` block has been left.
        TimeLimitError: it took longer than `limit`.
    """
    family = _family.get()
    tail: deque[str] = deque(maxlen=TAIL)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        _cut(log)
    place = log or Path(os.devnull)
    with place.open("ab", buffering=0) as sink:
        with family.lock:
            if family.closed:
                raise ChildrenEndedError(f"{command[0]} was not started")
            held = (*_LEASH, str(os.getpid())) if family.leashed else ()
            process = _start((*held, *command), cwd, variables or {})
            family.running.add(process)
        note = cwd / CHILDREN / f"{process.pid}.json"
        output = process.stdout
        assert output is not None
        late, silent = threading.Event(), threading.Event()
        timer = threading.Timer(limit or 0, _end_late, (process, late))
        try:
            if on_start is not None:
                on_start(process.pid)
            _write_note(note, process)
            threading.Thread(target=_end_left, args=(process, silent), daemon=True).start()
            if limit is not None:
                timer.start()
            for raw in output:
                _note_down(raw, sink, place)
                line = raw.rstrip("\n")
                tail.append(line)
                if on_line is not None:
                    on_line(line)
            process.wait()
        finally:
            silent.set()
            timer.cancel()
            if process.poll() is None:
                _end_group(process)
            output.close()
            note.unlink(missing_ok=True)
            with family.lock:
                family.running.discard(process)
    if limit is not None and late.is_set():
        raise TimeLimitError(f"had not ended after {limit / 3600:g} h, and was ended")
    return Finished(process.returncode, tuple(tail))


@contextmanager
def children(*, leashed: bool = False) -> Iterator[Callable[[], None]]:
    """End, when the block is left, every child started within it that still runs.

    That holds for all threads that run in a copy of the block's context. Where work waits in a
    queue for a thread, it can start no child afterwards.

    Yields what does the same sooner, for another thread to call. With `leashed` children also end
    when this process is killed (see `keyslice.versioning.leash`).
    """
    family = _Family(leashed=leashed)

    def end() -> None:
        with family.lock:
            family.closed = True
            left = list(family.running)
        try:
            for process in left:
                _signal_group(process.pid, signal.SIGTERM)  # all at once: they end side by side
            for process in left:
                _end_group(process)
        except BaseException:  # a second Ctrl-C cuts the grace of all of them short
            for process in left:
                _signal_group(process.pid, signal.SIGKILL)
            raise

    token = _family.set(family)
    try:
        yield end
    finally:
        _family.reset(token)
        end()


def children_ended() -> bool:
    """Whether the surrounding `children` block has been left."""
    return _family.get().closed


def check_children() -> None:
    """Raises ChildrenEndedError where the surrounding `children` block has been left."""
    if children_ended():
        raise ChildrenEndedError("nothing is started any more")


def end_orphans(root: Path) -> int:
    """End the groups of a workspace whose owner was killed; returns how many there were.

    A group outlives an owner that had no time to end it, and would go on writing.
    """
    ended = 0
    for note, group in _orphans(root):
        if group is not None:
            ended += _alive(group)
            _end(group)
        note.unlink(missing_ok=True)
    return ended


def orphans(root: Path) -> list[int]:
    """The groups that `end_orphans` would end."""
    return [group for _, group in _orphans(root) if group is not None and _alive(group)]


def _orphans(root: Path) -> Iterator[tuple[Path, int | None]]:
    """The notes whose owner was killed, and the groups that are still what they name."""
    # Not the hidden files: a kill leaves them half-written.
    for note in sorted((root / CHILDREN).glob("[!.]*.json")):
        try:
            entry = json.loads(note.read_text(encoding="utf-8"))
            child, owner, group = entry["child"], entry["owner"], int(entry["child"]["pid"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            continue  # its owner has just removed it; or a full disk cut it
        if alive(owner) is not None:
            continue
        # A number is not given anew while its group has members: only a new leader is a stranger.
        known = alive(child) is not None or not psutil.pid_exists(group)
        yield note, group if known else None


def _note_down(line: str, log: IO[bytes], place: Path) -> None:
    """Add to a log; a full disk costs lines of it, and not the child that wrote them."""
    with suppress(OSError):
        log.write(line.encode())
        if log.tell() > 2 * LOG_BYTES:  # a server runs for months
            _cut(place)


def _cut(log: Path) -> None:
    """Leave the last lines of a log, LOG_BYTES together at most.

    In place, since it is open wherever it is written to. A kill leaves lines twice, at worst.
    """
    if log.is_file() and log.stat().st_size > LOG_BYTES:
        with suppress(OSError), log.open("r+b") as file:
            file.seek(-LOG_BYTES, os.SEEK_END)
            _, _, kept = file.read().partition(b"\n")
            file.seek(0)
            file.write(kept)
            file.truncate()


def _write_note(note: Path, process: "subprocess.Popen[str]") -> None:
    """Record a child and its owner, for `end_orphans`."""
    with suppress(psutil.NoSuchProcess):
        entry = {
            "child": identity(psutil.Process(process.pid)),
            "owner": identity(psutil.Process()),
        }
        files.write_text(note, json.dumps(entry))


def _start(
    command: Sequence[str], cwd: Path, variables: Mapping[str, str]
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment() | dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _end_left(process: "subprocess.Popen[str]", silent: threading.Event) -> None:
    """Once a child has ended: end what of its group keeps its output from falling silent."""
    process.wait()
    # Where the number names a process again, the group is gone.
    if not silent.wait(LAST_WORDS) and not psutil.pid_exists(process.pid):
        _end(process.pid)


def _end_late(process: "subprocess.Popen[str]", late: threading.Event) -> None:
    late.set()
    _end(process.pid)


def _end_group(process: "subprocess.Popen[str]") -> None:
    _end(process.pid)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE)


def _end(group: int) -> None:
    """Ask the group to end, then end it; returns when none of it is left running."""
    _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    try:
        while _alive(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:  # a second Ctrl-C cuts the grace short, and nothing survives it
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _alive(group: int) -> bool:
    """Whether a process of the group still runs; a zombie does not."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False

"""Exams are read in processes of their own: on all cores, and one that a file ends takes no other.

A damaged file can make a library crash, never come to an end, or ask for all the memory there is:
then its worker is ended and the file refused. Where this process itself is killed, its workers end
with it: else one would go on, with nobody to end it, and write beside the next ingestion.
"""

import multiprocessing
import os
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil
from pebble import ProcessExpired, ProcessPool
from threadpoolctl import threadpool_limits

from keyslice.config import Limits

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Tasks for each worker that are under way or wait: none idles, and memory stays bounded."""
LEAST = 2 * 2**30
"""Bytes of memory for each process; where there are fewer, fewer processes run."""
TOO_LONG = "reading it took longer than {:,} s (limits.seconds)"
ENDED = "reading it ended the process that did: damaged, or larger than memory allows"


class Workers(AbstractContextManager["Workers"]):
    """A pool of processes, started when it is first needed.

    Args:
        limits: on time and memory.
        count: of processes; default: the cores this process may use.
    """

    def __init__(self, limits: Limits, count: int | None = None) -> None:
        self._limits = limits
        self._memory = _memory()
        self._count = count or max(1, min(len(os.sched_getaffinity(0)), self._memory // LEAST))
        self._pool: ProcessPool | None = None

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result | str]:
        """`function(item)` for each item, in their order; where it did not return, why, in words.

        `function` and its results travel between processes; what it raises is raised here. An item
        that ended its process is tried once more: something else may have ended that.
        """
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, self._schedule(function, item)))
            if len(waiting) >= AHEAD * self._count:
                yield self._result(function, *waiting.popleft())
        while waiting:
            yield self._result(function, *waiting.popleft())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def _schedule(self, function: Callable[[Item], Result], item: Item) -> "Future[Result]":
        return self.pool().schedule(function, (item,), timeout=self._limits.seconds)

    def _result(
        self, function: Callable[[Item], Result], item: Item, future: "Future[Result]"
    ) -> Result | str:
        try:
            try:
                return future.result()
            except ProcessExpired:
                return self._schedule(function, item).result()
        except FutureTimeoutError:
            return TOO_LONG.format(self._limits.seconds)
        except ProcessExpired:
            return ENDED

    def pool(self) -> ProcessPool:
        """The processes; started now, if they are not."""
        if self._pool is None:
            # Not forked from this process, which may run threads, and hold torch.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["keyslice.exams.taking"])
            most = min(2 * self._limits.memory + 2**30, self._memory // self._count)
            self._pool = ProcessPool(
                max_workers=self._count, initializer=partial(_begin, most), context=context
            )
        return self._pool


def _memory() -> int:
    """Bytes that this machine has, or that its container may use."""
    most = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no cgroup of version 2, or no limit: max
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return most


def _begin(most: int) -> None:
    """Limit what this process may allocate to `most` bytes, beyond what it has mapped by now.

    And keep it to one thread of linear algebra: the others would spin on its neighbours' cores.
    And silence it: libraries print what they think of a file, from below Python, too. And have it
    end with the process that started it, whose child it is not, but the fork server's.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    threadpool_limits(1)
    mapped = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (mapped + most, resource.RLIM_INFINITY))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # whatever the other thread is in

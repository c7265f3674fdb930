"""Which signals end what goes on until it is ended: `keyslice up`, and the serving process."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flows import serve
from keyslice.services.supervisor import ended_by_signals


@pytest.fixture
def ignored(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether this process was started as under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if request.param else signal.SIG_DFL)
    yield request.param
    signal.signal(signal.SIGHUP, before)


def _supervisor_ends(number: int) -> bool:
    stopped: list[bool] = []
    keeper: Any = SimpleNamespace(stop=lambda: stopped.append(True))
    with ended_by_signals(keeper):
        os.kill(os.getpid(), number)
    return bool(stopped)


def _serving_ends(number: int) -> bool:
    async def hit() -> bool:
        stopping = serve._stopping()
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
            return stopping.is_set()
        finally:
            for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                asyncio.get_running_loop().remove_signal_handler(one)

    before = [(one, signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGINT)]
    try:
        return asyncio.run(hit())
    finally:
        for one, handler in before:
            signal.signal(one, handler)


@pytest.mark.parametrize("ignored", [True, False], indirect=True)
def test_a_closed_terminal_ends_them_but_under_nohup(ignored: bool) -> None:
    assert _supervisor_ends(signal.SIGHUP) is not ignored
    assert _serving_ends(signal.SIGHUP) is not ignored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_asks_them_to_end_is_heard(number: int) -> None:
    assert _supervisor_ends(number)
    assert _serving_ends(number)

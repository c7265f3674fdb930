"""Which signals end what goes on: `keyslice up`, the serving process, and a retraining."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from flows import serve
from keyslice.ending import interruptible
from keyslice.services.supervisor import ended_by_signals

EVERY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def ignored(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether this process was started as under nohup, or by a script in the background."""
    wanted = signal.SIG_IGN if request.param else signal.SIG_DFL
    before = {one: signal.signal(one, wanted) for one in (signal.SIGHUP, signal.SIGINT)}
    yield request.param
    for one, handler in before.items():
        signal.signal(one, handler)


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
            for one in EVERY:
                asyncio.get_running_loop().remove_signal_handler(one)

    before = [(one, signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGINT)]
    try:
        return asyncio.run(hit())
    finally:
        for one, handler in before:
            signal.signal(one, handler)


def _is_interrupted(number: int) -> bool:
    before = [signal.getsignal(one) for one in EVERY]
    try:
        with interruptible():
            os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        return True
    finally:
        assert [signal.getsignal(one) for one in EVERY] == before
    return False


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("ignored", [True, False], indirect=True)
def test_what_whoever_started_them_wants_ignored_is(ignored: bool, number: int) -> None:
    assert _supervisor_ends(number) is not ignored
    assert _serving_ends(number) is not ignored
    assert _is_interrupted(number) is not ignored


def test_in_another_thread_nothing_is_interrupted() -> None:
    before = [signal.getsignal(one) for one in EVERY]

    def there() -> list[object]:
        with interruptible():
            return [signal.getsignal(one) for one in EVERY]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(there).result() == before


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_asks_them_to_end_is_heard(number: int) -> None:
    assert _supervisor_ends(number)
    assert _serving_ends(number)
    assert _is_interrupted(number)

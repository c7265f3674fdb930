"""A Prefect server for one command, where no address of one is set.

Prefect would start one as well, but in the command's own group: there Ctrl-C on a terminal ends it
together with the work whose end it is to be told of, and one whose command is killed goes on.
"""

import atexit
import contextvars
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.server import LISTENING
from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.health import STARTUP_SECONDS, WELL, health

COMMAND = ("-P", "-m", "flows.server", "--host", "127.0.0.1", "--port", "0", "--ephemeral")
LOG = "prefect-of-command.log"
"""Below state/logs."""
_pages: dict[Path, str] = {}
"""Of those that this process has started, by workspace."""


@contextmanager
def own_server(workspace: Workspace) -> Iterator[None]:
    """One that Prefect calls within the block; nothing where it knows of another.

    It ends with this process: what Prefect still has to tell it of, it tells at the very end.

    Raises:
        RunError: it does not answer, or has ended.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    page = _pages.get(workspace.root)
    if page is None or not _well(page):
        page = _pages[workspace.root] = _started(workspace)
    with temporary_settings({PREFECT_API_URL: f"{page}/api"}):
        yield


def _started(workspace: Workspace) -> str:
    """The address of a new one."""
    context = contextvars.copy_context()  # whose children end with it, not with the caller's
    with ExitStack() as stack:
        page = context.run(stack.enter_context, _served(workspace))
        # After the threads by which Prefect tells it.
        atexit.register(context.run, stack.pop_all().close)
    return page


@contextmanager
def _served(workspace: Workspace) -> Iterator[str]:
    with versioning.children(leashed=True):
        port: Future[str] = Future()
        server = threading.Thread(
            target=contextvars.copy_context().run, args=(_serve, workspace, port), daemon=True
        )
        server.start()
        deadline = time.monotonic() + STARTUP_SECONDS
        try:
            page = f"http://127.0.0.1:{port.result(STARTUP_SECONDS)}"
        except TimeoutError:
            raise _failed("does not answer") from None
        # Its port is its own as long as it runs: whoever answers then is it.
        while not (well := _well(page)) and server.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        if not server.is_alive():
            raise _failed("has ended")
        if not well:
            raise _failed("does not answer")
        yield page
    server.join()  # its note is gone then


def _serve(workspace: Workspace, port: "Future[str]") -> None:
    """Until it ends; its port, or why it has none, is told."""

    def heard(line: str) -> None:
        if line.startswith(LISTENING) and not port.done():
            port.set_result(line.removeprefix(LISTENING))

    log = workspace.state / "logs" / LOG
    try:
        versioning.run((sys.executable, *COMMAND), cwd=workspace.root, log=log, on_line=heard)
        raise _failed("has ended")
    except Exception as error:
        if not port.done():
            port.set_exception(error)


def _well(page: str) -> bool:
    return health(f"{page}/api/health", own=True) == WELL


def _failed(how: str) -> RunError:
    return RunError(f"the run's own server {how}, see state/logs/{LOG}")

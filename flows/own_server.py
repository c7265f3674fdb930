"""A Prefect server for one command, where no address of one is set.

Prefect would start one as well, but in the command's own group: there Ctrl-C on a terminal ends it
together with the work whose end it is to be told of, and one whose command is killed goes on.
"""

import atexit
import contextvars
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.health import WELL, health

STARTUP_SECONDS = 180.0
"""Until it answers: it takes 10–20 s, and longer where other processes want the cores."""
VARIABLES = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",  # to its log
}
LOG = "prefect-of-command.log"
"""Below state/logs."""


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
    page = f"http://127.0.0.1:{_free_port()}"
    context = contextvars.copy_context()  # whose children end with it, not this block's
    with ExitStack() as stack:
        context.run(stack.enter_context, _served(workspace, page))
        # After the threads by which Prefect tells it.
        atexit.register(context.run, stack.pop_all().close)
    with temporary_settings({PREFECT_API_URL: f"{page}/api"}):
        yield


@contextmanager
def _served(workspace: Workspace, page: str) -> Iterator[None]:
    with versioning.children(leashed=True):
        server = threading.Thread(
            target=contextvars.copy_context().run, args=(_serve, workspace, page), daemon=True
        )
        server.start()
        deadline = time.monotonic() + STARTUP_SECONDS
        while health(f"{page}/api/health", own=True) != WELL:
            if not server.is_alive() or time.monotonic() > deadline:
                how = "does not answer" if server.is_alive() else "has ended"
                raise RunError(f"the run's own server {how}, see state/logs/{LOG}")
            time.sleep(0.1)
        yield
    server.join()  # its note is gone then


def _serve(workspace: Workspace, page: str) -> None:
    port = page.rpartition(":")[2]
    command = (sys.executable, "-P", "-m", "flows.server", "--host", "127.0.0.1", "--port", port)
    log = workspace.state / "logs" / LOG
    versioning.run(command, cwd=workspace.root, log=log, variables=VARIABLES)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

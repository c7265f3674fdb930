"""`keyslice up`, `down` and `serve`: the installation as a service, in the foreground."""

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout
from rich.text import Text

from flows.environment import API, environment
from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, say
from keyslice.errors import RunError, UserError
from keyslice.services import supervisor
from keyslice.services.programs import programs
from keyslice.stages.running import alive, identity

DOWN_SECONDS = 120.0
"""That `down` waits for `up` to end everything."""


def serve(workspace: Workspace) -> None:
    """Serve until ended.

    Raises:
        UserError: no server is named.
        RunError: it does not answer.
    """
    if not os.environ.get(API):
        raise UserError(
            f"{API} is not set",
            rule="deployments are served to a Prefect server that runs",
            remedy="keyslice up starts one, and this with it; or name yours",
        )
    for name, value in environment(workspace).items():
        os.environ.setdefault(name, value)
    workspace.state.mkdir(exist_ok=True)  # Prefect makes its own folder in it, not this one
    os.chdir(workspace.root)  # where the runs' processes begin
    from flows.serve import serve as until_ended

    until_ended(workspace, _tell)


def up(workspace: Workspace, params: Params) -> None:
    """Start the servers and the serving process, and keep them running until ended.

    Raises:
        UserError: it runs already; a port is taken; or the servers would be open to anybody.
        RunError: a server does not come up.
    """
    guard, note = workspace.lock("up"), _note(workspace)
    guard.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(guard)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "is running already",
            where="keyslice up",
            rule="one process keeps the servers of a workspace",
            remedy="keyslice status shows their addresses, keyslice down ends it",
        ) from None
    try:
        if versioning.recover(workspace):
            _tell("cleared away what a killed run had left")
        chosen = programs(workspace, params)
        supervisor.check_ports(chosen, params.service.host)
        keeper = supervisor.Supervisor(workspace, chosen, _tell, _echo)
        shown = {one.name: one.page for one in chosen if one.page}
        files.write_text(note, json.dumps({"process": identity(psutil.Process()), "pages": shown}))
        with supervisor.ended_by_signals(keeper):
            keeper.run()
        _tell("all of them have ended")
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def down(workspace: Workspace) -> None:
    """End `keyslice up` of this workspace, and what it has started.

    Raises:
        UserError: it does not run.
        RunError: it has not ended in time.
    """
    holder = _holder(workspace)
    if holder is None:
        raise UserError("keyslice up does not run here", remedy="keyslice up starts it")
    holder.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    with err.status("ending"):
        while holder.is_running() and holder.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise RunError(f"it has not ended within {DOWN_SECONDS:g} s (process {holder.pid})")
            time.sleep(0.2)
    out.print("ended")


def pages(workspace: Workspace) -> dict[str, str] | None:
    """Where the servers of `keyslice up` answer, by their names; None: it does not run."""
    return _read(workspace)["pages"] if _holder(workspace) is not None else None


def _holder(workspace: Workspace) -> psutil.Process | None:
    return alive(_read(workspace)["process"])


def _read(workspace: Workspace) -> dict[str, Any]:
    try:
        return json.loads(_note(workspace).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {"process": None, "pages": {}}


def _note(workspace: Workspace) -> Path:
    return workspace.state / "service" / "up"


def _echo(line: str) -> None:
    say(err, Text(line))


def _tell(line: str) -> None:
    say(err, Text(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}"))

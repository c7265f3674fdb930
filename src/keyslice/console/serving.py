"""`keyslice up`, `down` and `serve`: the installation as a service, in the foreground."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime

import psutil
from rich.text import Text

from flows.environment import API, prepare
from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, say
from keyslice.errors import RunError, UserError
from keyslice.services import holder, supervisor
from keyslice.services.programs import outside, programs

DOWN_SECONDS = 120.0
"""That `down` waits for `up` to end everything."""


def serve(workspace: Workspace) -> None:
    """Serve until ended.

    Raises:
        UserError: no server is named; or it is served already.
        RunError: it does not answer.
    """
    if not os.environ.get(API):
        raise UserError(
            f"{API} is not set",
            rule="deployments are served to a Prefect server that runs",
            remedy="keyslice up starts one, and this with it; or name yours",
        )
    prepare(workspace)
    workspace.state.mkdir(exist_ok=True)  # Prefect makes its own folder in it, not this one
    os.chdir(workspace.root)  # where the runs' processes begin
    rule = "one process retrains a workspace on schedule and on arrival"
    remedy = "keyslice status shows it; end it first (keyslice down, where keyslice up runs)"
    with holder.only_one(workspace, "serve", rule=rule, remedy=remedy) as note:
        note([*outside(workspace).values()])
        from flows.serve import serve as until_ended

        until_ended(workspace, _tell)
    _leave()


def _leave() -> None:
    """End, also where a share that does not answer holds a thread."""
    if any(one.is_alive() and not one.daemon for one in threading.enumerate()[1:]):
        sys.stderr.flush()
        os._exit(0)


def up(workspace: Workspace, params: Params) -> None:
    """Start the servers and the serving process, and keep them running until ended.

    Raises:
        UserError: it runs already; a port is taken; or the servers would be open to anybody.
        RunError: a server does not come up.
    """
    rule = "one process keeps the servers of a workspace"
    remedy = "keyslice status shows their addresses, keyslice down ends it"
    with holder.only_one(workspace, "up", rule=rule, remedy=remedy) as note:
        if versioning.recover(workspace):
            _tell("cleared away what a killed run had left")
        if holder.holder(workspace, "serve") is not None:
            raise UserError(
                "keyslice serve runs already in this workspace",
                rule="keyslice up starts one of its own",
                remedy="end that one, or leave it alone with the server it has",
            )
        chosen = programs(workspace, params)
        supervisor.check_ports(chosen, params.service.host)
        keeper = supervisor.Supervisor(workspace, chosen, _tell, _echo)
        note(chosen)
        with supervisor.ended_by_signals(keeper):
            keeper.run()
        _tell("all of them have ended")


def down(workspace: Workspace) -> None:
    """End `keyslice up` of this workspace, and what it has started, also where it was killed.

    Raises:
        UserError: it does not run, and has left nothing.
        RunError: it has not ended in time.
    """
    found = holder.holder(workspace, "up")
    if found is not None:
        found.process.send_signal(signal.SIGTERM)
        with err.status("ending"):
            if not _ends(found.process, DOWN_SECONDS):
                raise RunError(
                    f"it has not ended within {DOWN_SECONDS:g} s (process {found.process.pid})"
                )
        out.print("ended")
        return
    with err.status("looking"):
        left = _end_what_is_left(workspace)
    if not left:
        raise UserError("keyslice up does not run here", remedy="keyslice up starts it")
    out.print("it had been killed; what it had left running is ended now")


def _end_what_is_left(workspace: Workspace) -> bool:
    """Whether there was anything. The serving process goes first: it ends its runs."""
    serving, left = holder.holder(workspace, "serve"), versioning.orphans(workspace.root)
    if serving is not None and serving.process.pid in left:
        serving.process.terminate()
        _ends(serving.process, supervisor.STOP_SECONDS)
    while versioning.recover(workspace):  # what has ended may have left children of its own
        pass
    return bool(left)


def _ends(process: psutil.Process, seconds: float) -> bool:
    """Whether a process ends in this time."""
    deadline = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
    return True


def _echo(line: str) -> None:
    say(err, Text(line))


def _tell(line: str) -> None:
    say(err, Text(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}"))

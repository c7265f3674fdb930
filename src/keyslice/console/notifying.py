"""`keyslice notify`: a test message to each receiver, and whether it arrived."""

from rich.text import Text

from flows import notify
from flows.environment import prepare
from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.errors import UserError


def run(workspace: Workspace, params: Params, *, as_json: bool) -> bool:
    """Send and show; whether it arrived everywhere.

    As JSON: a list with an object for each receiver: target, arrived, fault (null: none).

    Raises:
        UserError: nobody is to be told of anything; or see `flows.notify.check`.
    """
    notify.check(workspace, params.notify)
    if not notify.targets(params.notify):
        raise UserError(
            "nobody is to be told",
            rule="KEYSLICE_WEBHOOK names a webhook, notify.blocks in params.yaml Prefect's blocks",
            remedy="set one of them",
        )
    if params.notify.blocks:
        workspace.state.mkdir(exist_ok=True)  # Prefect makes its folder, not the one above
        prepare(workspace)
    happening = notify.Happening("test", "This is a test, and nothing has happened.")
    with err.status("sending"):
        done = notify.deliver(workspace, params.notify, happening)
    if as_json:
        print_json(
            [{"target": d.target, "arrived": not d.fault, "fault": d.fault or None} for d in done]
        )
    else:
        for one in done:
            mark, words = ("✗", f"not sent: {one.fault}") if one.fault else ("✓", "sent")
            say(out, Text(f"{mark} {one.target}  {words}"))
        told = ", ".join(params.notify.occasions) or "nothing: notify.occasions is empty"
        say(out, Text(f"told of: {told}"))
    return not any(one.fault for one in done)

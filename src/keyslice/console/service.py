"""What of the service runs in a workspace, and when it is due next; for `keyslice status`."""

from datetime import UTC, datetime
from typing import Any

from flows.environment import prepare
from keyslice.config import Params, Workspace
from keyslice.services.holder import holder


def facts(workspace: Workspace, params: Params | None) -> dict[str, Any] | None:
    """Whether `up` and `serve` run, their `servers` (page and health), and what is due `next`.

    None: neither runs. Without settings nothing can be told of what is due.
    """
    up, serve = holder(workspace, "up"), holder(workspace, "serve")
    found = up or serve
    if found is None:
        return None
    health = found.health()
    servers = {one.name: {"page": one.page, "health": health[one.name]} for one in found.servers}
    due = _scheduled(workspace, params) if serve and params else {}
    return {"up": up is not None, "serve": serve is not None, "servers": servers, "next": due}


def words(found: dict[str, Any] | None) -> str:
    """Of `facts`, the same in lines."""
    if found is None:
        return (
            "\nNo service runs here: nothing is retrained on schedule or on arrival, unless\n"
            "a work pool of Prefect does it; keyslice up starts one"
        )
    servers = found["servers"].items()
    listed = ", ".join(f"{name} {one['page']} ({one['health']})" for name, one in servers)
    told = f"\nkeyslice {'up' if found['up'] else 'serve'} runs: {listed}"
    if not found["serve"]:
        return f"{told}; the serving process does not run now, see state/logs/serving.log"
    due = (f"\n{name} is due next at {time:%Y-%m-%d %H:%M} UTC" for name, time in _times(found))
    return told + "".join(due)


def _times(found: dict[str, Any]) -> list[tuple[str, datetime]]:
    return [(name, datetime.fromisoformat(time)) for name, time in found["next"].items()]


def _scheduled(workspace: Workspace, params: Params) -> dict[str, str]:
    """The next time of each dataset that has a schedule."""
    schedules = {name: params.retrain_settings(name).schedule for name in params.datasets}
    if not any(schedules.values()):
        return {}
    prepare(workspace)
    from flows.times import next_after  # loads Prefect

    now = datetime.now(UTC)
    return {name: next_after(one, now).isoformat() for name, one in schedules.items() if one}

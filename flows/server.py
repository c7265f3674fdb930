"""Prefect's server as `keyslice up` starts it: pages of other sites do not reach it.

It has a password or, on loopback, may have none. Then whatever a browser on this machine has open
could call it: Prefect reads a body without a type as JSON, asks no web socket where it comes from,
and takes any name for its own. So a request must be for this machine, and from a page of this very
server if it comes from a page at all. That is less work for everybody than Prefect's tokens against
forgery, which a name that another site points at this machine (DNS rebinding) gets past.
"""

import argparse
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import click

from flows.environment import ASKED
from keyslice.loopback import loopback

LISTENING = "listening on port "
REFUSED = b"this server has no password, so it answers pages of its own, on this machine, alone\n"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Any, Send], Coroutine[Any, Any, None]]


def guarded(app: App) -> App:
    """The application (ASGI) without requests for other names, or from pages of other sites."""

    async def answer(scope: Message, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan" or near(dict(scope["headers"])):
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # policy violation
        else:
            kind = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": REFUSED})

    return answer


def near(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is for this machine, and from no page or one that came from there, too."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    try:
        named = urlsplit(f"//{host}").hostname or ""
        return loopback(named) and (not origin or urlsplit(origin).netloc == host)
    except ValueError:  # no address
        return False


def main() -> None:
    """As `prefect server start --host HOST --port PORT`; at port 0 it is at a free one.

    When it has its port it tells which, after LISTENING.
    """
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ephemeral", action="store_true", help="no pages, no services")
    given = parser.parse_args()
    server = get_current_settings().server
    app = create_app(ephemeral=given.ephemeral, final=True)
    config = uvicorn.Config(
        app if os.environ.get(ASKED) else guarded(app),
        host=given.host,
        port=given.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )
    opened = config.bind_socket()
    click.echo(f"{LISTENING}{opened.getsockname()[1]}")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([opened])


if __name__ == "__main__":
    main()

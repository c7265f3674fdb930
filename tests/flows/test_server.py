"""Who reaches a Prefect server without a password."""

import asyncio
from typing import Any

import pytest

from flows.server import guarded, near


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:4200", None),
        ("localhost:4200", "http://localhost:4200"),
        ("localhost:9999", "http://localhost:9999"),  # through a tunnel
        ("LOCALHOST:9999", "http://localhost:9999"),
        ("[::1]:4200", "http://[::1]:4200"),
    ],
)
def test_programs_and_its_own_pages_reach_it(host: str, origin: str | None) -> None:
    assert near(_headers(host, origin))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:4200", "https://elsewhere.example"),
        ("127.0.0.1:4200", "null"),
        ("127.0.0.1:4200", "http://localhost:8888"),
        ("127.0.0.1:4200", "http://[broken"),
        ("rebound.example:4200", "http://rebound.example:4200"),
        ("rebound.example:4200", None),
        ("127.0.0.1.rebound.example", None),
        ("127.0.0.1@rebound.example", None),
        ("[broken", None),
        ("", None),
    ],
)
def test_other_pages_and_other_names_do_not(host: str, origin: str | None) -> None:
    assert not near(_headers(host, origin))


@pytest.mark.parametrize(
    ("kind", "sent"), [("http", "http.response.start"), ("websocket", "websocket.close")]
)
def test_nothing_of_a_request_from_another_page_gets_through(kind: str, sent: str) -> None:
    reached: list[str] = []
    answers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def send(message: Any) -> None:
        answers.append(message)

    def call(kind: str, origin: str | None) -> None:
        scope = {"type": kind, "headers": [*_headers("localhost:1", origin).items()]}
        asyncio.run(guarded(app)(scope, None, send))  # pyright: ignore[reportArgumentType]

    call(kind, "https://elsewhere.example")
    assert reached == []
    assert answers[0]["type"] == sent
    assert answers[0].get("status", 403) == 403
    call(kind, "http://localhost:1")
    asyncio.run(guarded(app)({"type": "lifespan"}, None, send))
    assert reached == [kind, "lifespan"]


def _headers(host: str, origin: str | None) -> dict[bytes, bytes]:
    given = {b"host": host.encode()}
    return given if origin is None else given | {b"origin": origin.encode()}

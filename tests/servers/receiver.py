"""Who receives a webhook's messages: a real server in a thread, with answers to choose."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Keeps what it is sent; answers 200, or what `answers` holds, the first one first.

    Attributes:
        answers: (code, headers) of the next answers; None: the connection is closed without one.
        received: all requests, in their order.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, Mapping[str, str]] | None] = []
        self.received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T0/B1/xSecretx?token=ySecrety"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                received = Received(self.command, self.path, dict(self.headers), body)
                receiver.received.append(received)
                answer = receiver.answers.pop(0) if receiver.answers else (200, {})
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_PUT = _take  # noqa: N815 - its base class names them

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        return Handler

"""One POST to the address in KEYSLICE_WEBHOOK. The address is a secret: no error or log names it.

Https, or http to this machine itself. Proxies and authorities of certificates are those of the
standard variables (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE); http to this machine goes through none.
"""

import hmac
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import sleep

import httpx

from keyslice import __version__, private_file
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.loopback import loopback

ADDRESS_VARIABLE = "KEYSLICE_WEBHOOK"
SECRET_VARIABLE = "KEYSLICE_WEBHOOK_SECRET_FILE"  # noqa: S105 - the name of a variable
SIGNATURE_HEADER = "X-Keyslice-Signature"
"""`sha256=` and the hex digits of HMAC-SHA256 over the body's bytes, keyed with the secret."""

SECRET_BYTES = 32
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
"""Before the second attempt; doubled before each further one."""
WAITING_SECONDS = 60.0
"""From the first attempt to the start of the last one, at most, whatever the receiver asks for."""
TIMEOUT_SECONDS = 10.0
"""From the start of an attempt to the answer's headers, however they come."""


class NotDelivered(RunError):  # noqa: N818 - named for what happened
    """The receiver has not taken the message; says why, without its address."""


@dataclass(frozen=True)
class Webhook:
    """Where messages go, and what they are signed with."""

    address: httpx.URL = field(repr=False)
    secret: bytes | None = field(repr=False)
    """None: not signed."""


def configured(workspace: Workspace) -> Webhook | None:
    """The webhook that the environment names; None: it names none.

    Raises:
        UserError: the address, or the file with the secret, breaks a rule.
    """
    if not (text := os.environ.get(ADDRESS_VARIABLE)):
        return None
    return Webhook(_address(text), _secret(workspace))


def post(webhook: Webhook, body: bytes) -> None:
    """Send JSON; where that may help, try again: no connection, 429, 5xx.

    Attempts carry the same body, so that a receiver can tell a repetition by its `id`.

    Raises:
        NotDelivered: all attempts failed, or there was no use in another one.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"keyslice/{__version__}"}
    if webhook.secret is not None:
        digits = hmac.digest(webhook.secret, body, "sha256").hex()
        headers[SIGNATURE_HEADER] = f"sha256={digits}"
    last_start = time.monotonic() + WAITING_SECONDS
    wait = FIRST_WAIT_SECONDS
    with unlogged(), _client(webhook.address) as client:
        for attempt in range(1, ATTEMPTS + 1):
            answer = _attempt(client, webhook.address, headers, body)
            if not answer.fault:
                return
            if answer.wait is None:
                raise NotDelivered(answer.fault)
            pause = max(wait, answer.wait)
            if attempt == ATTEMPTS or time.monotonic() + pause > last_start:
                asked = f", and asks to wait for {pause:.0f} s" if answer.wait > wait else ""
                raise NotDelivered(f"{answer.fault}{asked} (attempt {attempt} of {ATTEMPTS})")
            sleep(pause)
            wait *= 2


@contextmanager
def unlogged() -> Iterator[None]:
    """Libraries log no line of what this thread sends within: they would log addresses."""
    for name in _TELLING:
        logging.getLogger(name).addFilter(_outside)  # the same one is not added twice
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def why(error: Exception) -> str:
    """What kept a request from its answer; libraries' own words may name the host."""
    if isinstance(error, httpx.TimeoutException):
        return _LATE.format(TIMEOUT_SECONDS)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted (SSL_CERT_FILE names a hospital's own authority)"
        if isinstance(cause, ssl.SSLError):
            return "TLS could not be agreed upon"
        if isinstance(cause, OSError) and (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0)
        cause = cause.__cause__ or cause.__context__
    return f"it cannot be reached ({type(error).__name__})"


_LATE = "no answer within {:.0f} s"
_TELLING = (
    "apprise",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "httpx",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)
"""Loggers that are told of addresses, paths or headers. (A filter does not reach those below.)"""
_sending: ContextVar[bool] = ContextVar("sending", default=False)


def _outside(_: logging.LogRecord) -> bool:
    return not _sending.get()


@dataclass(frozen=True)
class _Answer:
    fault: str
    """Empty: the message has arrived."""
    wait: float | None = None
    """Seconds that the receiver asks for; None: there is no use in another attempt."""


def _client(address: httpx.URL) -> httpx.Client:
    try:
        return httpx.Client(
            timeout=TIMEOUT_SECONDS, trust_env=address.scheme == "https", follow_redirects=False
        )
    except (OSError, ValueError):
        raise NotDelivered(
            "what SSL_CERT_FILE, SSL_CERT_DIR or a proxy's variable names cannot be used"
        ) from None


def _attempt(
    client: httpx.Client, address: httpx.URL, headers: dict[str, str], body: bytes
) -> _Answer:
    """In a thread: httpx begins to count anew with each byte that a receiver lets drip.

    One that is given up ends with the client, or at the next byte.
    """
    answers: list[_Answer | BaseException] = []

    def ask() -> None:
        try:
            answers.append(_asked(client, address, headers, body))
        except BaseException as error:  # raised again below
            answers.append(error)

    thread = threading.Thread(target=copy_context().run, args=(ask,), daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    answer = answers[0] if answers else _Answer(_LATE.format(TIMEOUT_SECONDS), 0.0)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _asked(
    client: httpx.Client, address: httpx.URL, headers: dict[str, str], body: bytes
) -> _Answer:
    try:
        # The headers are enough: a receiver cannot keep us with a long answer.
        with client.stream("POST", address, headers=headers, content=body) as response:
            code, asked = response.status_code, response.headers.get("Retry-After", "")
    except httpx.TransportError as error:
        return _Answer(why(error), 0.0)
    if 200 <= code < 300:
        return _Answer("")
    fault = f"it answered {code}"
    if 300 <= code < 400:
        fault += " (a redirection is not followed)"
    return _Answer(fault, _seconds(asked) if code == 429 or code >= 500 else None)


def _seconds(asked: str) -> float:
    """Of a header Retry-After, which is a number of seconds or a date; 0 where it is neither."""
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        date = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _address(text: str) -> httpx.URL:
    try:
        address = httpx.URL(text)
    except httpx.InvalidURL:
        address = httpx.URL()
    reachable = address.host and (address.port or 443) < 2**16
    if not (reachable and (address.scheme == "https" or _within(address))):
        raise UserError(
            "the address in it cannot be used (it is a secret, and not shown)",
            where=ADDRESS_VARIABLE,
            rule="it must begin with https://, or with http:// and this machine (127.0.0.1)",
            remedy="mend the variable, or unset it",
        ) from None
    return address


def _within(address: httpx.URL) -> bool:
    """Whether it is http to this machine itself."""
    return address.scheme == "http" and loopback(address.host)


def _secret(workspace: Workspace) -> bytes | None:
    """The text in the file that KEYSLICE_WEBHOOK_SECRET_FILE names, less white space around it."""
    remedy = "openssl rand -hex 32 > FILE; chmod 600 FILE; and give it to the receiver"
    content = private_file.secret(workspace, SECRET_VARIABLE, remedy=remedy)
    if content is None:
        return None
    secret = content.strip()
    if len(secret) < SECRET_BYTES:
        raise UserError(
            f"the file holds {len(secret)} characters",
            where=SECRET_VARIABLE,
            rule=f"a secret has at least {SECRET_BYTES}",
            remedy=remedy,
        )
    return secret

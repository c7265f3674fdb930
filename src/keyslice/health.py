"""Whether a server is well, by its own word."""

from urllib.parse import urlsplit

import httpx

from keyslice.loopback import loopback

WELL = "well"
STARTUP_SECONDS = 180.0
"""That a server has until it answers: it takes 10–20 s, longer where others want the cores."""
TIMEOUT = 5.0
"""Seconds that a server has for each step of its answer."""


def health(address: str, *, own: bool, timeout: float = TIMEOUT) -> str:
    """`well`, `answers 503` or `does not answer`.

    Args:
        address: that answers 200 when the server is well.
        own: it is this installation's; such a one, or one on this machine, is asked past proxies.
        timeout: seconds.
    """
    # Neither way overlooks SSL_CERT_FILE: a hospital may have an authority of its own.
    near = own or loopback(urlsplit(address).hostname or "")
    try:
        transport = httpx.HTTPTransport() if near else None
        with httpx.Client(transport=transport, timeout=timeout) as client:
            code = client.get(address).status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError):  # the last: no such certificates
        return "does not answer"
    return WELL if code == httpx.codes.OK else f"answers {code}"

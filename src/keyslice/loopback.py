"""Which addresses only this machine can reach."""

from ipaddress import ip_address


def loopback(host: str) -> bool:
    """Whether a server at this host, a name or an address, is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

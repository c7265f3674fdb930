"""The account that opens the servers, where they can be reached from other machines."""

import os
import stat
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import UserError

VARIABLE = "KEYSLICE_AUTH_FILE"
FEWEST = 12
"""Characters of a password; MLflow takes no shorter one."""


@dataclass(frozen=True)
class Account:
    """One line `user:password`, which Prefect's and MLflow's server ask for."""

    user: str
    password: str = field(repr=False)

    @property
    def line(self) -> str:
        return f"{self.user}:{self.password}"


def account(workspace: Workspace, host: str) -> Account | None:
    """The account in KEYSLICE_AUTH_FILE; None: not set, and `host` is seen from this machine only.

    Raises:
        UserError: it is demanded and not set; or the file cannot be read, can be read by others,
            lies in the workspace, or holds none.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        if loopback(host):
            return None
        raise UserError(
            f"{host!r} can be reached from other machines",
            where="service.host",
            rule=f"servers that others can reach ask for a password: {VARIABLE} names a file with "
            "`user:password`",
            remedy=f"make that file, chmod 600, and set {VARIABLE}; or leave the host at 127.0.0.1",
        )
    path = Path(named).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(f"{path} cannot be read ({type(error).__name__})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _wrong(f"{path} can be read by others", f"chmod 600 {path}")
    if path.resolve().is_relative_to(workspace.root.resolve()):
        raise _wrong(f"{path} lies in the workspace", "move it out of there")
    user, _, password = text.partition(":")
    if not user or len(text.splitlines()) != 1 or len(password) < FEWEST:
        raise _wrong("holds no account", f"write one line: user:password, of {FEWEST} or more")
    return Account(user, password)


def loopback(host: str) -> bool:
    """Whether only this machine can reach a server there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(what: str, remedy: str = "mend it, or name another file") -> UserError:
    rule = "it holds `user:password`, is its owner's alone, and lies outside the workspace"
    return UserError(what, where=VARIABLE, rule=rule, remedy=remedy)

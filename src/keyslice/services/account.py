"""The account that opens the servers, where they can be reached from other machines."""

from dataclasses import dataclass, field

from keyslice import private_file
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.loopback import loopback

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
    content = private_file.secret(workspace, VARIABLE, remedy="write `user:password` into it")
    if content is None:
        if loopback(host):
            return None
        raise UserError(
            f"{host!r} can be reached from other machines",
            where="service.host",
            rule=f"servers that others can reach ask for a password: {VARIABLE} names a file with "
            "`user:password`",
            remedy=f"make that file, chmod 600, and set {VARIABLE}; or leave the host at 127.0.0.1",
        )
    text = content.decode(errors="replace").strip()
    user, _, password = text.partition(":")
    if not user or len(text.splitlines()) != 1 or len(password) < FEWEST:
        raise UserError(
            "the file holds no account",
            where=VARIABLE,
            rule=f"it holds one line, user:password, the password of {FEWEST} characters or more",
            remedy="mend it, or name another file",
        )
    return Account(user, password)

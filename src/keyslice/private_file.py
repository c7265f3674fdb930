"""Files outside the workspace that variables of the environment name."""

import os
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import UserError


def outside(workspace: Workspace, variable: str, *, rule: str) -> Path | None:
    """The file that the variable names; None: it is not set.

    Args:
        workspace: that it must not lie in.
        variable: its name.
        rule: why it must not, in words.

    Raises:
        UserError: it lies there.
    """
    named = os.environ.get(variable)
    if not named:
        return None
    path = Path(named).expanduser().resolve()
    if path.is_relative_to(workspace.root.resolve()):
        raise UserError(
            f"{path} lies inside the workspace",
            where=variable,
            rule=rule,
            remedy="move it away and set the variable anew",
        )
    return path


def secret(workspace: Workspace, variable: str, *, remedy: str) -> bytes | None:
    """What the file that the variable names holds; None: it is not set.

    Args:
        workspace: that it must not lie in.
        variable: its name.
        remedy: how to make one.

    Raises:
        UserError: it lies there, cannot be read, or can be read by others than its owner.
    """
    rule = "a secret lies where nothing is versioned or shared"
    path = outside(workspace, variable, rule=rule)
    if path is None:
        return None
    try:
        content, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror})", where=variable, remedy=remedy
        ) from None
    if mode & 0o077:
        raise UserError(
            f"{path} can be read by others than its owner",
            where=variable,
            rule="it is secret",
            remedy=f"chmod 600 {path}",
        )
    return content

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
    return _outside(workspace, variable, named, rule) if named else None


def secret(workspace: Workspace, variable: str, *, remedy: str) -> bytes | None:
    """What the file that the variable names holds; None: it is not set.

    Args:
        workspace: that it must not lie in.
        variable: its name.
        remedy: how to make one.

    Raises:
        UserError: it lies there, cannot be read, or can be read by others than its owner.
    """
    named = os.environ.get(variable)
    return _secret(workspace, variable, named, remedy) if named else None


def secrets(workspace: Workspace, variable: str, *, remedy: str) -> list[bytes]:
    """What each of the files holds that the variable names, with a colon between (`os.pathsep`).

    Raises:
        UserError: of any of them; see `secret`.
    """
    names = os.environ.get(variable, "").split(os.pathsep)
    return [_secret(workspace, variable, named, remedy) for named in names if named]


def _outside(workspace: Workspace, variable: str, named: str, rule: str) -> Path:
    path = Path(named).expanduser().resolve()
    if path.is_relative_to(workspace.root.resolve()):
        raise UserError(
            f"{path} lies inside the workspace",
            where=variable,
            rule=rule,
            remedy="move it away and set the variable anew",
        )
    return path


def _secret(workspace: Workspace, variable: str, named: str, remedy: str) -> bytes:
    rule = "a secret lies where nothing is versioned or shared"
    path = _outside(workspace, variable, named, rule)
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

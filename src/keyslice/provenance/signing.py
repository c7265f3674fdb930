"""Signatures by ssh keys, made and checked by OpenSSH's own ssh-keygen.

An outsider checks one without Keyslice: `ssh-keygen -Y verify`. Keys and the list of who may sign
lie outside the workspace: whoever can change the workspace must not be able to say who signs.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from keyslice import private_file
from keyslice.config import Workspace
from keyslice.errors import UserError

KEY_VARIABLE = "KEYSLICE_SIGNING_KEY"
"""Path of a private ssh key without a passphrase, or of a public one whose agent runs."""
SIGNERS_VARIABLE = "KEYSLICE_SIGNERS"
"""Path of a file as ALLOWED SIGNERS in ssh-keygen(1): a principal and a public key in each line."""
HEAD, APPROVAL = "keyslice-head", "keyslice-approval"
"""Namespaces: a signature for one purpose is none for another."""


def key(workspace: Workspace) -> Path | None:
    """The key that KEYSLICE_SIGNING_KEY names; None: it is not set.

    Raises:
        UserError: there is no such file, or it lies in the workspace.
    """
    return _outside(workspace, KEY_VARIABLE, "ssh-keygen -t ed25519 -f FILE makes one")


def signers(workspace: Workspace) -> Path | None:
    """The list that KEYSLICE_SIGNERS names; None: it is not set.

    Raises:
        UserError: there is no such file, or it lies in the workspace.
    """
    return _outside(workspace, SIGNERS_VARIABLE, "see ALLOWED SIGNERS in `man ssh-keygen`")


def sign(key: Path, text: str, namespace: str) -> str:
    """An armoured signature of the text.

    Raises:
        UserError: ssh-keygen refuses.
    """
    answer = _keygen("sign", "-f", str(key), "-n", namespace, text=text)
    if answer.returncode != 0:
        raise UserError(
            f"ssh-keygen: {answer.stderr.strip() or answer.returncode}",
            where=KEY_VARIABLE,
            rule="it names an ssh key that signs without asking",
            remedy="remove its passphrase, or name its public half and start ssh-agent",
        )
    return answer.stdout


def public(key: Path) -> str:
    """The public half of a key; of one that is public, itself."""
    answer = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(key)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return answer.stdout if answer.returncode == 0 else key.read_text(encoding="utf-8")


def signed_by(text: str, signature: str, namespace: str, signers: Path) -> str | None:
    """Who signed this text for this purpose, as the list names them; None: nobody of the list."""
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        file = Path(place) / "signature"
        file.write_text(signature, encoding="utf-8")
        # Of several principals that a line names, the first.
        found = _keygen("find-principals", "-s", str(file), "-f", str(signers))
        principal = found.stdout.partition("\n")[0].strip()
        if found.returncode != 0 or not principal:
            return None
        told = ("-f", str(signers), "-I", principal, "-n", namespace, "-s", str(file))
        return principal if _keygen("verify", *told, text=text).returncode == 0 else None


def owner(key: Path, signers: Path) -> str | None:
    """Who a key belongs to, as the list names them; None: nobody of the list."""
    return signed_by("", sign(key, "", HEAD), HEAD, signers)


def holds(text: str, signature: str, namespace: str) -> bool:
    """Whether the signature is one of this text, by whatever key."""
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        file = Path(place) / "signature"
        file.write_text(signature, encoding="utf-8")
        told = ("-n", namespace, "-s", str(file))
        return _keygen("check-novalidate", *told, text=text).returncode == 0


def _outside(workspace: Workspace, variable: str, remedy: str) -> Path | None:
    rule = "who can change the workspace must not be able to change who signs"
    found = private_file.outside(workspace, variable, rule=rule)
    if found is not None and not found.is_file():
        raise UserError(f"there is no file {found}", where=variable, remedy=remedy)
    return found


def _keygen(
    action: str, *arguments: str, text: str | None = None
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", action, *arguments],
            input=text if text is not None else "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UserError(
            "ssh-keygen is not installed",
            rule="signatures are OpenSSH's",
            remedy="install the package openssh-client",
        ) from None

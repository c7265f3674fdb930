"""Pseudonyms: keyed hashes of patient ids. The key lies outside the workspace; no id is kept.

A key may be followed by another; which of them a patient's pseudonym is made with: `keyring`.
"""

import hmac
import os
import secrets
from pathlib import Path

from keyslice import private_file
from keyslice.config import Workspace
from keyslice.errors import UserError

KEY_VARIABLE = "KEYSLICE_KEY_FILE"
FORMER_VARIABLE = "KEYSLICE_FORMER_KEYS"
KEY_BYTES = 32
PUBLISHED_KEY = b"keyslice: the published key, for phantoms and public data only"
"""No secret: whoever has the ids of a public set has them anyway."""
SHOWN = 8
"""Digits of a mark that people are shown."""
MAKE_ONE = f"make one with `keyslice key new PATH`, set {KEY_VARIABLE} to it and back it up"


def pseudonym(key: bytes, issuer: str, patient_id: str) -> str:
    """32 hex digits of HMAC-SHA256 over the issuer and the patient id as text.

    The issuer's length stands in front, so that no two pairs give the same message.
    """
    first, second = issuer.encode(), patient_id.encode()
    message = b"%d:%s%s" % (len(first), first, second)
    return hmac.digest(key, message, "sha256").hex()[:32]


def mark(key: bytes) -> str:
    """Stands for a key, and tells nothing of it: a pseudonym of no patient."""
    return pseudonym(key, "keyslice", "which key")


def secret_key(workspace: Workspace) -> bytes:
    """The key in the file that KEYSLICE_KEY_FILE names.

    Raises:
        UserError: not set, not there, too short, inside the workspace, or readable by others.
    """
    key = private_file.secret(workspace, KEY_VARIABLE, remedy=MAKE_ONE)
    if key is None:
        raise UserError(
            f"{KEY_VARIABLE} is not set",
            rule="real patient ids are turned into pseudonyms with a secret key",
            remedy=MAKE_ONE,
        )
    return _long_enough(key, KEY_VARIABLE)


def former_keys(workspace: Workspace) -> list[bytes]:
    """The keys in the files that KEYSLICE_FORMER_KEYS names, in its order: the newest first.

    Raises:
        UserError: one of them is not there, too short, inside the workspace, or readable by others.
    """
    remedy = "bring it back from its backup: patients keep the pseudonyms that it made"
    keys = private_file.secrets(workspace, FORMER_VARIABLE, remedy=remedy)
    return [_long_enough(key, FORMER_VARIABLE) for key in keys]


def _long_enough(key: bytes, variable: str) -> bytes:
    if len(key) < KEY_BYTES:
        raise UserError(
            f"the file holds {len(key)} bytes",
            where=variable,
            rule=f"a key has at least {KEY_BYTES}",
            remedy=MAKE_ONE if variable == KEY_VARIABLE else "name the file of a key",
        )
    return key


def create_key(path: Path) -> None:
    """Write a new random key that only its owner can read.

    Raises:
        UserError: the file exists, lies in a workspace, or cannot be written.
    """
    path = path.expanduser().resolve()
    if any((folder / "params.yaml").is_file() for folder in path.parents):
        raise UserError(
            f"{path} lies inside a workspace",
            rule="a key must lie where nothing is versioned or shared",
            remedy="choose a path outside",
        )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(
            f"{path} exists",
            rule="a key is never overwritten: the pseudonyms made with it would be lost",
            remedy="choose another path",
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror})", remedy="choose another path"
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())

"""Heads of the ledger: what its last event was, noted where the ledger cannot change it.

The chain alone shows what was altered in its middle. That its end was cut off, or that all of it
was written anew, shows against a head that was noted before: in state/ledger/heads, in the commits
of refs/keyslice/ledger, and on a git remote that they are pushed to. A head that is signed shows it
also where whoever altered the ledger could alter those places, but does not have the key.
"""

import json
from dataclasses import asdict, dataclass, replace

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import ledger, signing
from keyslice.provenance.installation import installation
from keyslice.versioning import anchor

FILE = "head.json"


@dataclass(frozen=True)
class Head:
    """An event of an installation's ledger, as its end once was."""

    installation: str
    sequence: int
    hash: str
    signature: str | None = None

    @property
    def text(self) -> str:
        """What is signed."""
        return f"keyslice ledger {self.installation}\n{self.sequence} {self.hash}\n"


@dataclass(frozen=True)
class Noted:
    """A head, and where it stands."""

    head: Head
    where: str


def note(workspace: Workspace) -> Head | None:
    """Note the ledger's present head, signed where a key is set; None: there is no event yet.

    One that is noted already is not noted again.

    Raises:
        UserError: the key cannot sign.
    """
    with ledger.exclusive(workspace):
        found = ledger.read(workspace)
        if not found:
            return None
        key = signing.key(workspace)
        file = ledger.folder(workspace) / "heads" / f"{found[-1].number}.json"
        known = _parsed(file.read_text(encoding="utf-8")) if file.is_file() else None
        if known and known.hash == found[-1].hash and (known.signature or key is None):
            return known
        head = Head(installation(workspace), found[-1].number, found[-1].hash)
        if key is not None:
            head = replace(head, signature=signing.sign(key, head.text, signing.HEAD))
        text = json.dumps(asdict(head), indent=2) + "\n"
        files.write_text(file, text)
        if anchor.possible(workspace):
            anchor.write(workspace, {FILE: text}, f"Ledger: event {head.sequence}")
    return head


def push(workspace: Workspace, remote: str) -> None:
    """Send noted heads and run commits to a git remote, where there is anything new.

    Raises:
        RunError: it cannot be reached, or has other heads.
    """
    if anchor.unpushed(workspace, remote):
        anchor.push(workspace, remote)


def noted(workspace: Workspace, remote: str | None = None) -> list[Noted]:
    """Every head that is noted here, and on the remote as it was last fetched.

    Raises:
        UserError: git cannot read its commits.
    """
    folder = ledger.folder(workspace) / "heads"
    kept = [file for file in folder.glob("*.json") if file.stem.isdecimal()]
    texts = [file.read_text("utf-8", "replace") for file in sorted(kept, key=lambda f: int(f.stem))]
    places = {"state/ledger/heads": texts}
    places["git"] = anchor.contents(workspace, anchor.REF, FILE)
    if remote:
        places[f"remote {remote}"] = anchor.contents(workspace, anchor.copy_of(remote), FILE)
    found = [(_parsed(text), where) for where, texts in places.items() for text in texts]
    return [Noted(head, where) for head, where in found]


def _parsed(text: str) -> Head:
    """Raises UserError: it is no head."""
    try:
        return Head(**json.loads(text))
    except (ValueError, TypeError):
        raise UserError(
            "a noted head of the ledger cannot be read",
            where=f"state/ledger/heads or {anchor.REF}",
            rule="it is as keyslice wrote it",
            remedy="restore state/ledger from its backup",
        ) from None

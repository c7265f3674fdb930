"""Whether the ledger is the one that was written: what can be shown, and what cannot."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance import heads, ledger, signing
from keyslice.provenance.heads import Head
from keyslice.versioning import anchor


@dataclass(frozen=True, order=True)
class Fault:
    """Something that is not as it was written."""

    number: int
    """Of the first event that it concerns."""
    what: str


@dataclass(frozen=True)
class Checked:
    """What a check of the ledger found."""

    events: int
    head: str
    """Hash of the last event; empty: there is none."""
    faults: tuple[Fault, ...]
    """The first bad event first."""
    torn: int
    """Bytes of a last line that was cut off; the next event mends it."""
    signed: int
    """The last event that a head signed by a known signer covers; 0: none."""
    signer: str
    """Who signed that head."""
    anchored: int
    """The last event that a head on a remote covers; 0: none."""
    remarks: tuple[str, ...]
    """What could not be looked at, and why."""

    @property
    def proves(self) -> str:
        """What follows from it, and what does not, in a sentence or two."""
        if not self.events:
            return "there is no event yet"
        if self.faults:
            return "the ledger is not the one that was written"
        if self.signed and self.anchored < self.signed:
            return (
                f"events 1 to {self.signed} are as {self.signer} signed them; that none followed "
                "cannot be shown without a remote"
            )
        if self.signed:
            known = f"events 1 to {self.signed} are as {self.signer} signed them, and were pushed"
        elif self.anchored:
            known = f"events 1 to {self.anchored} are as they were pushed"
        else:
            return (
                "unanchored: no event was altered, removed or moved singly; that the whole was "
                "not written anew, or its end cut off, cannot be shown without a signed head or a "
                "remote"
            )
        left = self.events - max(self.signed, self.anchored)
        return known + (f"; the last {left} are chained to them, and nothing more" if left else "")


def check(workspace: Workspace, remote: str | None = None) -> Checked:
    """Read every event and every noted head.

    Args:
        workspace: whose ledger.
        remote: of git, that heads are pushed to; it is asked.
    """
    faults, known, torn = _links(workspace)
    remarks: list[str] = []
    if remote:
        try:
            anchor.fetch(workspace, remote)
        except RunError as error:
            remarks.append(f"the remote could not be asked: {error}")
    try:
        noted = heads.noted(workspace, remote)
    except UserError as error:
        noted = []
        faults.append(Fault(0, str(error)))
    last = max(known, default=0)
    for one in noted:
        faults += _against(one, known, last)
    signed, signer = 0, ""
    if known and (signers := _signers(workspace, remarks)) is not None:
        signed, signer, unsigned = _signed(noted, signers)
        faults += unsigned
        if signed and last > signed:
            # Every command signs at its end: this one is under way, or it was no command.
            faults.append(Fault(signed + 1, "and what follows is signed by nobody yet"))
    matching = [one for one in noted if known.get(one.head.sequence) == one.head.hash]
    pushed = [one.head.sequence for one in matching if one.where.startswith("remote")]
    return Checked(
        events=len(known),
        head=known.get(last, ""),
        faults=tuple(sorted(set(faults))),
        torn=torn,
        signed=signed,
        signer=signer,
        anchored=max(pushed, default=0),
        remarks=tuple(remarks),
    )


def _links(workspace: Workspace) -> tuple[list[Fault], dict[int, str], int]:
    """What is wrong within the chain, the hash of each event, and bytes of a torn last line."""
    lines, torn = ledger.lines(workspace)
    faults: list[Fault] = []
    known: dict[int, str] = {}
    expected, previous = 1, ledger.FIRST
    for line in lines:
        try:
            event = ledger.parse(line)
        except (ValueError, LookupError, TypeError) as error:
            faults.append(Fault(expected, f"was altered ({error})"))
            expected, previous = expected + 1, None
            continue
        if event.number > expected:
            faults.append(Fault(expected, f"is missing; event {event.number} stands in its place"))
        elif event.number < expected:
            faults.append(Fault(event.number, f"stands after event {expected - 1}"))
        elif previous is not None and event.previous != previous:
            faults.append(Fault(event.number, "does not follow from the event before it"))
        known[event.number] = event.hash
        expected, previous = event.number + 1, event.hash
    return faults, known, torn


def _against(noted: heads.Noted, known: dict[int, str], last: int) -> list[Fault]:
    head, where = noted.head, noted.where
    if head.sequence > last:
        return [Fault(last + 1, f"and what follows was cut off; {where} has event {head.sequence}")]
    if head.sequence in known and known[head.sequence] != head.hash:
        return [Fault(head.sequence, f"or one before it was written anew; {where} has another")]
    return []


def _signed(noted: list[heads.Noted], signers: str) -> tuple[int, str, list[Fault]]:
    """The last event that is signed, by whom, and heads whose signature is none."""
    unique: dict[Head, str] = {one.head: one.where for one in noted}
    found, faults = (0, ""), []
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        file = Path(place) / "signers"
        file.write_text(signers, encoding="utf-8")
        # From the last: heads before it are covered by the chain.
        for head in sorted(unique, key=lambda head: -head.sequence):
            if head.signature is None:
                continue
            principal = signing.signed_by(head.text, head.signature, signing.HEAD, file)
            if principal is None:
                faults.append(Fault(head.sequence, f"is signed by nobody who may ({unique[head]})"))
                continue
            found = (head.sequence, principal)
            break
    if not found[0] and not faults:
        faults.append(Fault(1, "and all after it are signed by nobody, though a signer is named"))
    return *found, faults


def _signers(workspace: Workspace, remarks: list[str]) -> str | None:
    """The list of who may sign; without one, the key that signs here; None: neither is set."""
    try:
        if (named := signing.signers(workspace)) is not None:
            return named.read_text(encoding="utf-8")
        key = signing.key(workspace)
    except UserError as error:
        remarks.append(str(error))
        return None
    if key is None:
        remarks.append(f"signatures were not looked at: {signing.SIGNERS_VARIABLE} is not set")
        return None
    return f"{signing.KEY_VARIABLE} {signing.public(key)}"

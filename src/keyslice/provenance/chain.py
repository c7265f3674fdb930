"""Whether the ledger is the one that was written: what can be shown, and what cannot."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.provenance import events, heads, ledger, signing
from keyslice.provenance.heads import Head
from keyslice.provenance.installation import installation
from keyslice.provenance.ledger import Event
from keyslice.versioning import anchor

PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, order=True)
class Fault:
    """Something that is not as it was written."""

    number: int
    """Of the first event that it concerns."""
    what: str
    unsigned: bool = False
    """It is as it was appended, as far as the chain shows, and nobody who may has signed it."""


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
        if self.faults and all(fault.unsigned for fault in self.faults):
            return (
                "nothing shows whether what is unsigned was written by a command; keyslice ledger "
                "sign takes it over"
            )
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
    first = next(iter(ledger.readable(workspace)), None)
    if first and first.number == 1 and first.object != installation(workspace):
        faults.append(Fault(1, "tells of another installation than state/installation"))
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
            faults.append(Fault(signed + 1, "and what follows is signed by nobody yet", True))
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


def check_signed(workspace: Workspace) -> None:
    """Whether all events are signed, where KEYSLICE_SIGNERS names who signs; else does nothing.

    Asked before anything is changed: what nobody has signed is neither acted on nor signed with
    what comes next. A command that runs beside this one has some seconds to sign.

    Raises:
        UserError: an event was altered, or nobody who may has signed it.
    """
    if signing.signers(workspace) is None:
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while faults := check(workspace).faults:
        if time.monotonic() > deadline:
            first = faults[0]
            raise UserError(
                f"event {first.number} {first.what}",
                where="state/ledger",
                rule="what nobody has signed is not acted on: a command was cut off, or somebody "
                "else wrote it",
                remedy="keyslice ledger show tells what it is; keyslice ledger sign REASON takes "
                "it over"
                if all(fault.unsigned for fault in faults)
                else "keyslice ledger verify tells more; restore state/ledger from its backup",
            )
        time.sleep(POLL_SECONDS)


def take_over(workspace: Workspace, reason: str) -> Event | None:
    """Sign what nobody has signed; the ledger tells of it for ever. None: there is nothing.

    Args:
        workspace: whose ledger.
        reason: why it is trusted, in a person's words.

    Raises:
        UserError: no key is set, or an event was altered.
    """
    if signing.key(workspace) is None:
        raise UserError(
            "no key is set",
            where=signing.KEY_VARIABLE,
            rule="events are signed by an ssh key",
            remedy="ssh-keygen -t ed25519 -f FILE makes one",
        )
    with ledger.exclusive(workspace):
        found = check(workspace)
        altered = [fault for fault in found.faults if not fault.unsigned]
        if altered:
            raise UserError(
                f"event {altered[0].number} {altered[0].what}",
                where="state/ledger",
                rule="only events that are as they were appended are signed",
                remedy="restore state/ledger from its backup",
            )
        if not found.faults:
            return None
        payload = {"first": found.faults[0].number, "last": found.events, "reason": reason}
        event = ledger.append(workspace, events.LEDGER_SIGNED, "ledger", payload)
        heads.note(workspace)
        return event


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
        what = "and all after it are signed by nobody, though a signer is named"
        faults.append(Fault(1, what, True))
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

"""What follows the last signed head, where it is known who may sign."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import chain, events, heads, ledger
from keyslice.registry import settling


@pytest.fixture
def signed(
    workspace: Workspace, make_key: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The key that a ledger of two events was signed with; nobody is named yet."""
    key = make_key("anna")
    key.with_name("signers").write_text(f"anna {key.with_suffix('.pub').read_text()}")
    ledger.append(workspace, events.RUN_STARTED, "scans", {})
    with monkeypatch.context() as signing:
        signing.setenv("KEYSLICE_SIGNING_KEY", str(key))
        heads.note(workspace)
    return key


@pytest.fixture(params=["KEYSLICE_SIGNERS", "KEYSLICE_SIGNING_KEY"])
def known(request: pytest.FixtureRequest, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may sign is known from a list, or from the key that signs here."""
    listed = request.param == "KEYSLICE_SIGNERS"
    monkeypatch.setenv(request.param, str(signed.with_name("signers") if listed else signed))


@pytest.mark.usefixtures("known")
def test_an_event_after_the_last_signed_head_is_a_fault(workspace: Workspace) -> None:
    assert chain.check(workspace).faults == ()
    ledger.append(workspace, events.RUN_STARTED, "scans", {"forged": True})
    ledger.append(workspace, events.RUN_STARTED, "scans", {"forged": True})
    assert chain.check(workspace).faults == (
        chain.Fault(3, "and what follows is signed by nobody yet", unsigned=True),
    )


@pytest.mark.usefixtures("signed")
def test_a_head_noted_after_it_without_a_signature_covers_nothing(
    workspace: Workspace, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(workspace, events.RUN_STARTED, "scans", {"forged": True})
    heads.note(workspace)
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(signed.with_name("signers")))
    assert [fault.number for fault in chain.check(workspace).faults] == [3]
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(signed))
    heads.note(workspace)
    assert chain.check(workspace).faults == ()


@pytest.mark.usefixtures("signed")
def test_where_nobody_is_named_an_unsigned_end_is_no_fault(workspace: Workspace) -> None:
    ledger.append(workspace, events.RUN_STARTED, "scans", {})
    found = chain.check(workspace)
    assert found.faults == ()
    assert any("signatures were not looked at" in remark for remark in found.remarks)


@pytest.fixture
def forged(workspace: Workspace, signed: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Someone without the key appends an event; the key and who may sign are known."""
    ledger.append(workspace, events.RUN_STARTED, "scans", {"forged": True})
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(signed.with_name("signers")))
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(signed))
    monkeypatch.setattr(chain, "PATIENCE_SECONDS", 0)
    return workspace


def test_no_command_acts_on_what_nobody_signed_or_signs_it_along(forged: Workspace) -> None:
    with pytest.raises(UserError, match=r"event 3 and what follows is signed by nobody.*sign REA"):
        settling.resume(forged, pytest.fail)
    assert chain.check(forged).signed == 2


def test_where_others_sign_no_command_goes_without(
    forged: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYSLICE_SIGNING_KEY")
    with pytest.raises(UserError, match="KEYSLICE_SIGNING_KEY is not set"):
        settling.resume(forged, pytest.fail)


def test_what_a_person_takes_over_is_signed_and_stays_visible(forged: Workspace) -> None:
    event = chain.take_over(forged, "a power cut")
    assert event
    assert event.payload == {"first": 3, "last": 3, "reason": "a power cut"}
    settling.resume(forged, pytest.fail)
    assert chain.check(forged).signed == event.number
    assert chain.take_over(forged, "again") is None


def test_what_was_altered_is_not_taken_over(forged: Workspace) -> None:
    path = ledger.path(forged)
    path.write_bytes(path.read_bytes().replace(b"forged", b"farged"))
    with pytest.raises(UserError, match="event 3 was altered"):
        chain.take_over(forged, "why not")


def test_a_file_among_the_heads_that_is_none_is_told_of(workspace: Workspace, signed: Path) -> None:
    folder = ledger.folder(workspace) / "heads"
    (folder / "9x.json").write_text("no head")
    assert chain.check(workspace).faults == ()
    (folder / "9.json").write_bytes(b"\xff\xfe")
    assert "cannot be read" in chain.check(workspace).faults[0].what

"""What follows the last signed head, where it is known who may sign."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.provenance import chain, events, heads, ledger


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
        chain.Fault(3, "and what follows is signed by nobody yet"),
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

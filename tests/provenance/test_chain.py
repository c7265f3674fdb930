import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.provenance import canonical, chain, heads, ledger, signing
from keyslice.versioning import anchor

EVENTS = 12


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    for number in range(2, EVENTS + 1):
        ledger.append(
            workspace, "run.started", "scans", {"number": number, "plan": {"alpha": 0.05}}
        )
    return workspace


def _lines(workspace: Workspace) -> list[bytes]:
    return ledger.path(workspace).read_bytes().splitlines(keepends=True)


def _put(workspace: Workspace, lines: list[bytes]) -> None:
    ledger.path(workspace).write_bytes(b"".join(lines))


def _rewritten(lines: list[bytes], number: int) -> list[bytes]:
    """As someone does who knows the format: one event changed, all after it chained anew."""
    import json

    found = [json.loads(line) for line in lines]
    found[number - 1]["payload"]["forged"] = True
    for before, event in zip([None, *found[:-1]], found, strict=True):
        event.pop("hash")
        event["previous"] = before["hash"] if before else ledger.FIRST
        event["hash"] = canonical.sha256(event)
    return [canonical.dumps(event).encode() + b"\n" for event in found]


def test_an_untouched_ledger_is_without_fault(filled: Workspace) -> None:
    found = chain.check(filled)
    assert (found.events, found.faults, found.torn) == (EVENTS, (), 0)
    assert found.proves.startswith("unanchored")


def test_any_byte_that_is_changed_names_the_event_that_it_stands_in(filled: Workspace) -> None:
    content = ledger.path(filled).read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(content) - 1), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        ledger.path(filled).write_bytes(bytes(changed))
        found = chain.check(filled)
        number = content[:place].count(b"\n") + 1
        assert found.faults, place
        assert found.faults[0].number in (number, number + (content[place] == ord("\n"))), place


@pytest.mark.parametrize("number", [1, 5, EVENTS - 1])
def test_an_event_that_was_removed_is_missing(filled: Workspace, number: int) -> None:
    lines = _lines(filled)
    del lines[number - 1]
    _put(filled, lines)
    first = chain.check(filled).faults[0]
    assert first.number == number
    assert "missing" in first.what


def test_events_that_were_swapped_are_named(filled: Workspace) -> None:
    lines = _lines(filled)
    lines[3], lines[6] = lines[6], lines[3]
    _put(filled, lines)
    assert chain.check(filled).faults[0].number == 4


def test_a_cut_off_end_shows_against_a_noted_head_only(filled: Workspace) -> None:
    lines = _lines(filled)
    _put(filled, lines[:-2])
    assert chain.check(filled).faults == ()
    assert "unanchored" in chain.check(filled).proves
    _put(filled, lines)
    heads.note(filled)
    _put(filled, lines[:-2])
    first = chain.check(filled).faults[0]
    assert (first.number, "cut off" in first.what) == (EVENTS - 1, True)


def test_a_ledger_written_anew_shows_against_a_head_in_git_though_the_noted_file_was_changed(
    filled: Workspace,
) -> None:
    heads.note(filled)
    _put(filled, _rewritten(_lines(filled), 5))
    for file in (ledger.folder(filled) / "heads").iterdir():
        file.unlink()
    first = chain.check(filled).faults[0]
    assert first.number == EVENTS
    assert "written anew; git has another" in first.what


def test_forged_heads_are_not_signed_by_who_may_sign(
    filled: Workspace, make_key: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can change every file here, but has no key."""
    key = make_key("anna")
    signers = key.with_name("signers")
    signers.write_text(f"anna@hospital {key.with_suffix('.pub').read_text()}")
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(signers))
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(key))
    heads.note(filled)
    found = chain.check(filled)
    assert (found.signed, found.signer, found.faults) == (EVENTS, "anna@hospital", ())
    assert found.proves.startswith(f"events 1 to {EVENTS} are as anna@hospital signed them; that")

    _put(filled, _rewritten(_lines(filled), 5))
    for file in (ledger.folder(filled) / "heads").iterdir():
        file.unlink()
    subprocess.run(["git", "update-ref", "-d", anchor.REF], cwd=filled.root, check=True)
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(make_key("mallory")))
    heads.note(filled)
    assert "signed by nobody who may" in chain.check(filled).faults[0].what
    monkeypatch.delenv("KEYSLICE_SIGNING_KEY")
    for file in (ledger.folder(filled) / "heads").iterdir():
        file.unlink()
    subprocess.run(["git", "update-ref", "-d", anchor.REF], cwd=filled.root, check=True)
    heads.note(filled)
    assert "signed by nobody, though" in chain.check(filled).faults[0].what


def test_a_signature_of_another_purpose_or_text_does_not_count(
    make_key: Callable[[str], Path],
) -> None:
    key = make_key("anna")
    signers = key.with_name("signers")
    signers.write_text(f"anna {key.with_suffix('.pub').read_text()}")
    made = signing.sign(key, "text\n", signing.APPROVAL)
    assert signing.signed_by("text\n", made, signing.APPROVAL, signers) == "anna"
    assert signing.signed_by("text\n", made, signing.HEAD, signers) is None
    assert signing.signed_by("other\n", made, signing.APPROVAL, signers) is None


def test_an_outsider_checks_a_head_by_ssh_keygen_alone(
    filled: Workspace, make_key: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key("anna")
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(key))
    head = heads.note(filled)
    assert head
    assert head.signature
    (key.parent / "sig").write_text(head.signature)
    (key.parent / "signers").write_text(f"anna {key.with_suffix('.pub').read_text()}")
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "anna", "-n", "keyslice-head"]
    subprocess.run([*command, "-s", "sig"], cwd=key.parent, input=head.text, text=True, check=True)


def test_a_key_in_the_workspace_is_refused(
    filled: Workspace, make_key: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key("anna").rename(filled.root / "key")
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(key))
    with pytest.raises(Exception, match="lies inside the workspace"):
        heads.note(filled)


def test_a_remote_shows_that_ledger_heads_and_git_were_all_cut_back(
    filled: Workspace, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "far")], check=True)
    subprocess.run(
        ["git", "remote", "add", "far", str(tmp_path / "far")], cwd=filled.root, check=True
    )
    heads.note(filled)
    earlier = anchor.contents(filled, anchor.REF, heads.FILE)
    ledger.append(filled, "run.started", "scans", {})
    heads.note(filled)
    heads.push(filled, "far")
    assert len(anchor.contents(filled, anchor.REF, heads.FILE)) == len(earlier) + 1
    found = chain.check(filled, "far")
    assert found.anchored == EVENTS + 1
    assert found.proves == f"events 1 to {EVENTS + 1} are as they were pushed"

    _put(filled, _lines(filled)[:-1])
    (ledger.folder(filled) / "heads" / f"{EVENTS + 1}.json").unlink()
    before = ["git", "update-ref", anchor.REF, f"{anchor.REF}~1"]
    subprocess.run(before, cwd=filled.root, check=True)
    assert chain.check(filled).faults == ()
    first = chain.check(filled, "far").faults[0]
    assert first.number == EVENTS + 1
    assert "remote far has event" in first.what


def test_a_remote_that_does_not_answer_is_told_and_hides_nothing_else(filled: Workspace) -> None:
    heads.note(filled)
    found = chain.check(filled, "nowhere")
    assert found.faults == ()
    assert any("could not be asked" in remark for remark in found.remarks)


def test_a_head_is_noted_once(filled: Workspace) -> None:
    heads.note(filled)
    heads.note(filled)
    assert len(anchor.contents(filled, anchor.REF, heads.FILE)) == 1

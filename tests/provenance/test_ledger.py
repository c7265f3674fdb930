import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import canonical, chain, ledger

WRITERS = 8
EACH = 500 if os.environ.get("KEYSLICE_CHAOS") else 60
WRITE = """
import sys
from pathlib import Path
from keyslice.config import Workspace
from keyslice.provenance import ledger
for number in range(int(sys.argv[2])):
    ledger.append(Workspace(Path(sys.argv[1])), "run.started", sys.argv[3], {"number": number})
"""


def test_the_first_event_opens_the_ledger_and_each_names_the_one_before(
    workspace: Workspace,
) -> None:
    ledger.append(workspace, "run.started", "scans", {"a": 1})
    ledger.append(workspace, "run.started", "scans", {"a": 2}, by="anna")
    first, second, third = ledger.read(workspace)
    assert [first.action, second.action] == ["ledger.opened", "run.started"]
    assert [e.number for e in (first, second, third)] == [1, 2, 3]
    assert first.previous == ledger.FIRST
    assert [second.previous, third.previous] == [first.hash, second.hash]
    assert third.actor == "anna"
    assert third.payload == {"a": 2}
    assert chain.check(workspace).faults == ()


def test_an_outsider_can_recompute_a_hash_from_the_line_alone(workspace: Workspace) -> None:
    ledger.append(workspace, "run.started", "scans", {"ü": [1.5, None, True]})
    line = json.loads(ledger.path(workspace).read_text().splitlines()[-1])
    told = line.pop("hash")
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
    assert digest.stdout.split()[0].decode() == told


def test_who_acts_is_the_user_or_what_a_variable_says(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYSLICE_ACTOR", "Anna Roe")
    assert ledger.append(workspace, "run.started", "scans", {}).actor == "Anna Roe"


def test_a_payload_that_json_does_not_know_is_refused_and_nothing_is_written(
    workspace: Workspace,
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ledger.append(workspace, "run.started", "scans", {"auc": float("nan")})
    assert ledger.read(workspace) == []


def _at_once(workspace: Workspace, writers: int, each: int) -> None:
    command = [sys.executable, "-c", WRITE, str(workspace.root), str(each)]
    running = [subprocess.Popen([*command, f"writer {n}"]) for n in range(writers)]
    assert [process.wait() for process in running] == [0] * writers


def test_eight_writers_at_once_lose_no_event_and_the_chain_holds(workspace: Workspace) -> None:
    _at_once(workspace, WRITERS, EACH)
    found = ledger.read(workspace)
    assert Counter(event.object for event in found[1:]) == {
        f"writer {n}": EACH for n in range(WRITERS)
    }
    for n in range(WRITERS):
        own = [e.payload["number"] for e in found if e.object == f"writer {n}"]
        assert own == list(range(EACH))
    assert chain.check(workspace).faults == ()


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_a_line_that_a_crash_cut_off_is_put_aside_and_told(workspace: Workspace, cut: int) -> None:
    ledger.append(workspace, "run.started", "scans", {"a": 1})
    before = ledger.path(workspace).read_bytes()
    ledger.append(workspace, "run.started", "scans", {"a": 2})
    line = ledger.path(workspace).read_bytes()[len(before) :]
    ledger.path(workspace).write_bytes(before + line[:cut])
    assert [e.payload.get("a") for e in ledger.read(workspace)] == [None, 1]
    assert chain.check(workspace).torn == len(line[:cut])
    ledger.append(workspace, "run.started", "scans", {"a": 3})
    after = ledger.path(workspace).read_bytes()
    assert after.startswith(before)
    mended, last = ledger.read(workspace)[-2:]
    assert mended.action == "ledger.mended"
    assert mended.payload["fragments"][0]["bytes"] == len(line[:cut])
    assert last.payload == {"a": 3}
    [kept] = (ledger.folder(workspace) / "torn").iterdir()
    assert kept.read_bytes() == line[:cut]
    assert chain.check(workspace).faults == ()
    ledger.append(workspace, "run.started", "scans", {"a": 4})
    assert [e.action for e in ledger.read(workspace)].count("ledger.mended") == 1


def test_a_kill_between_putting_aside_and_telling_is_told_by_the_next_event(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(workspace, "run.started", "scans", {})
    with ledger.path(workspace).open("ab") as file:
        file.write(b'{"action"')
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ledger.append(workspace, "run.started", "scans", {})
    assert ledger.path(workspace).read_bytes().endswith(b"\n")
    ledger.append(workspace, "run.started", "scans", {})
    assert [e.action for e in ledger.read(workspace)][2:] == ["ledger.mended", "run.started"]


def test_a_torn_first_line_is_mended_too(workspace: Workspace) -> None:
    ledger.folder(workspace).mkdir(parents=True)
    ledger.path(workspace).write_bytes(b'{"acti')
    ledger.append(workspace, "run.started", "scans", {})
    actions = [event.action for event in ledger.read(workspace)]
    assert actions == ["ledger.opened", "ledger.mended", "run.started"]
    assert chain.check(workspace).faults == ()


def test_nothing_is_built_on_a_damaged_event(workspace: Workspace) -> None:
    ledger.append(workspace, "run.started", "scans", {"a": 1})
    content = ledger.path(workspace).read_bytes()
    ledger.path(workspace).write_bytes(content.replace(b'"a":1', b'"a":2'))
    with pytest.raises(UserError, match=r"last event is damaged.*keyslice ledger verify"):
        ledger.append(workspace, "run.started", "scans", {})
    assert ledger.path(workspace).read_bytes().count(b"\n") == 2


def test_an_event_is_on_the_disk_before_append_returns(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").resolve()
        size = target.stat().st_size
        synced.append((target.name, size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.append(workspace, "run.started", "scans", {"a": 1})
    whole = ledger.path(workspace).stat().st_size
    assert ("events.jsonl", whole) in synced
    assert synced[-1][0] == "ledger"  # the folder, with the new name in it


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # No lone surrogates: they are no text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_reading_canonical_json_and_writing_it_again_gives_the_same_bytes(value: object) -> None:
    text = canonical.dumps(value)
    assert "\n" not in text
    assert canonical.dumps(json.loads(text)) == text

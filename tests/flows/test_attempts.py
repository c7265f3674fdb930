"""The note of the last attempt at a dataset."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from flows import attempts
from keyslice.config import Workspace
from keyslice.stages.running import identity


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def _begun_and_killed(workspace: Workspace) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from flows import attempts;"
        "from keyslice.config import Workspace;"
        "attempts.begin(Workspace(Path(sys.argv[1])), 'scans', 'schedule', 'run');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.root)], check=False)


def test_what_was_noted_is_read_back(workspace: Workspace) -> None:
    assert attempts.last(workspace, "scans") is None
    due = datetime(2030, 5, 1, 2, tzinfo=UTC)
    begun = attempts.begin(workspace, "scans", "arrival: 3 new exams", "run", due)
    assert attempts.last(workspace, "scans") == begun
    assert begun.due == due
    assert not begun.was_cut_off
    attempts.end(workspace, "scans", begun, "retrained", "version 3, gate: passed")
    ended = attempts.last(workspace, "scans")
    assert ended is not None
    assert ended.ended is not None
    assert replace(ended, ended=None, outcome="", result="") == begun
    assert ended.words.startswith("arrival: 3 new exams; retrained: version 3, gate: passed, took ")


def test_a_note_of_an_earlier_release_is_read(workspace: Workspace) -> None:
    begun = attempts.begin(workspace, "scans", "schedule", "run")
    note = workspace.state / "service" / "scans.json"
    written = json.loads(note.read_text())
    assert written.pop("due") is None
    note.write_text(json.dumps(written))
    assert attempts.last(workspace, "scans") == begun


def test_a_killed_one_was_cut_off_and_those_in_a_row_are_counted(workspace: Workspace) -> None:
    for times in range(3):
        _begun_and_killed(workspace)
        last = attempts.last(workspace, "scans")
        assert last is not None
        assert (last.was_cut_off, last.cut_off) == (True, times)
    attempts.end(workspace, "scans", attempts.begin(workspace, "scans", "", ""), "failed")
    assert attempts.begin(workspace, "scans", "", "").cut_off == 0


def test_what_is_resumed_says_what_it_was_begun_for(workspace: Workspace) -> None:
    _begun_and_killed(workspace)
    attempt = attempts.begin(workspace, "scans", "resumed: the run of now was cut off", "")
    assert (attempt.first, attempt.cut_off) == ("schedule", 1)
    attempts.end(workspace, "scans", attempt, "stopped")
    again = attempts.begin(workspace, "scans", "resumed: the run of now was stopped", "")
    assert again.first == "schedule"
    attempts.end(workspace, "scans", again, "stopped")
    assert attempts.begin(workspace, "scans", "by hand", "").first == ""


def test_a_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(
    workspace: Workspace,
) -> None:
    begun = attempts.begin(workspace, "scans", "schedule", "run")
    other = dict(identity(psutil.Process()) or {}, started="another time")
    assert replace(begun, process=other).was_cut_off


@pytest.mark.parametrize("text", ["", "{", "[]", '{"why": 1}', '{"begun": "yesterday"}'])
def test_a_damaged_note_is_as_none(workspace: Workspace, text: str) -> None:
    attempts.begin(workspace, "scans", "schedule", "run")
    [note] = (workspace.state / "service").iterdir()
    note.write_text(text)
    assert attempts.last(workspace, "scans") is None

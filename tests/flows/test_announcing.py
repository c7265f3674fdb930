"""Who is told what of a version, also where a retraining was cut off after its registration."""

import pytest

from flows import announcing, notify, telling
from flows.tasks import Gated
from flows.telling import Telling
from keyslice.config import Workspace, load

WAITS = Gated("passed; waits for approval", 8, True)
BLOCKED = Gated("failed; blocked by auc", 8, False)


class Told:
    """Occasions that were told of; at one of them the process is killed, once it has been told."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace, self.occasions, self.killed_at = workspace, list[str](), ""
        monkeypatch.setattr(notify, "send", self._send)

    def _send(self, _: object, __: object, happening: notify.Happening) -> None:
        self.occasions.append(happening.occasion)
        if happening.occasion == self.killed_at:
            raise KeyboardInterrupt

    def registered(self, version: int, gated: Gated | None, *, known: int = 2) -> None:
        """What a run does that found version 2, and the ledger at event 7."""
        left = telling.begin(self.workspace, "tiny", known, 7)
        params = load(self.workspace.params)
        announcing.registered(self.workspace, params, "tiny", version, gated, left)


@pytest.fixture
def told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(workspace, monkeypatch)


@pytest.mark.parametrize(
    ("version", "gated", "occasions"),
    [
        (3, WAITS, "candidate gate approval"),
        (3, BLOCKED, "candidate gate"),
        (3, None, "candidate"),
        (2, WAITS, "gate approval"),
        (2, Gated("passed before", 7, True), ""),
    ],
)
def test_what_is_new_is_told(told: Told, version: int, gated: Gated | None, occasions: str) -> None:
    told.registered(version, gated)
    assert told.occasions == occasions.split()
    assert telling.find(told.workspace, "tiny") is None


@pytest.mark.parametrize("killed_at", ["", "candidate", "gate", "approval"])
def test_a_kill_at_any_point_leaves_nothing_untold(told: Told, killed_at: str) -> None:
    """`""`: between the registration and the first message."""
    telling.begin(told.workspace, "tiny", 2, 7)
    told.killed_at = killed_at
    if killed_at:
        with pytest.raises(KeyboardInterrupt):
            told.registered(3, WAITS)
    told.killed_at = ""
    told.registered(3, WAITS, known=3)  # the next run finds it registered and judged
    every = ["candidate", "gate", "approval"]
    assert sorted(set(told.occasions)) == sorted(every)
    assert len(told.occasions) <= len(every) + 1  # the one at which it was killed comes twice
    assert telling.find(told.workspace, "tiny") is None


def test_a_damaged_note_is_as_none(workspace: Workspace) -> None:
    telling.begin(workspace, "tiny", 2, 7)
    [note] = (workspace.state / "service").iterdir()
    for text in ("", "[]", "{}", '{"version": 1}', "\\0"):
        note.write_text(text)
        assert telling.find(workspace, "tiny") is None
    assert telling.begin(workspace, "tiny", 4, 9) == Telling(4, 9)

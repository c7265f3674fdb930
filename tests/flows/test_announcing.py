"""Who is told what of a version, also where a retraining was cut off after its registration."""

import pytest

from flows import announcing, notify
from flows.tasks import Gated
from keyslice.config import Workspace, load


@pytest.mark.parametrize(
    ("gated", "new", "occasions"),
    [
        (Gated("passed; waits for approval", 8, True, True), True, "candidate gate approval"),
        (Gated("passed; waits for approval", 8, True, True), False, "gate approval"),
        (Gated("passed; waits for approval", 8, True, False), False, ""),
        (Gated("failed; blocked by auc", 8, False, True), True, "candidate gate"),
        (None, True, "candidate"),
    ],
)
def test_each_thing_is_told_once(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    gated: Gated | None,
    new: bool,
    occasions: str,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(notify, "send", lambda *given: told.append(given[2].occasion))
    announcing.registered(workspace, load(workspace.params), "tiny", 3, gated, new=new)
    assert told == occasions.split()

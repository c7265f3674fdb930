from pathlib import Path

from keyslice.cli import main
from keyslice.config import Workspace
from keyslice.console import demo


def test_what_is_proposed_after_the_demo_can_be_typed(tmp_path: Path, capsys) -> None:
    workspace = Workspace(tmp_path)
    for name in ("b.nii", "a.nii", "labels.csv"):
        file = workspace.inbox(demo.DATASET) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    demo.show_next(workspace)
    told = capsys.readouterr().out
    assert "data/comparisons/phantom_volumes/report.html" in told
    lines = [line.partition("  #") for line in told.splitlines()]
    proposed = {command.strip(): purpose for command, _, purpose in lines if purpose}
    assert "keyslice predict --model phantom_volumes data/inbox/phantom_volumes/a.nii" in proposed
    for command in proposed:
        program, name, *arguments = command.split()
        if program == "keyslice":
            with main.commands[name].make_context(name, arguments):
                pass

from itertools import pairwise
from pathlib import Path

from keyslice.cli import main
from keyslice.config import Workspace, load
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
    lines = [line.strip() for line in told.replace("\\\n", "").splitlines()]
    assert max(map(len, told.splitlines())) <= 80
    proposed = [command for before, command in pairwise(lines) if before.startswith("#")]
    assert len(proposed) == 7
    assert "keyslice predict --model phantom_volumes data/inbox/phantom_volumes/a.nii" in proposed
    for command in proposed:
        program, name, *arguments = command.split()
        if program == "keyslice":
            with main.commands[name].make_context(name, arguments):
                pass


def test_an_emptied_inbox_leaves_out_the_exam_to_predict(tmp_path: Path, capsys) -> None:
    workspace = Workspace(tmp_path)
    demo.show_next(workspace)
    workspace.inbox(demo.DATASET).mkdir(parents=True)
    demo.show_next(workspace)
    told = capsys.readouterr().out
    assert told.count("keyslice status") == 2
    assert "keyslice predict" not in told


def test_the_weights_that_are_told_are_those_of_the_settings(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "params.yaml").read_text()
    file = tmp_path / "params.yaml"
    told = {}
    for weights in ("none", "imagenet", "own.safetensors"):
        file.write_text(shipped.replace("weights: none", f"weights: {weights}"))
        told[weights] = demo.start(load(file))
    assert "no weights are fetched" in told["none"]
    assert told["imagenet"].startswith("ImageNet weights, fetched")
    assert told["own.safetensors"] == "the weights in own.safetensors"

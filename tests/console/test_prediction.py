import json
from dataclasses import replace
from pathlib import Path

import pytest

from keyslice.config import Evaluate, TestTime, Workspace
from keyslice.console import prediction
from keyslice.console.output import out
from keyslice.console.prediction import table
from keyslice.errors import UserError
from keyslice.models import predictor
from keyslice.models.predictor import Prediction

FOUND = Prediction(
    {"[no]": 0.25, "yes": 0.75},
    kept=[0, 1],
    attention=[0.5, 0.5],
    plane="axial",
    above_threshold=["yes"],
)
BELOW = replace(FOUND, above_threshold=[])


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`command(files, as_json)`: predict with a model that finds no file named bad.nii."""

    class Loaded:
        class settings:  # noqa: N801
            classes = ("[no]", "yes")
            evaluate = Evaluate()

        thresholds = {"yes": 0.6254}

        def __init__(self, often: TestTime) -> None:
            self.settings.evaluate = Evaluate(test_time=often)

        def predict_each(self, files):
            for file in files:
                bad = UserError("no such file", where=predictor.printable(str(file)))
                yield bad if file.name.endswith("bad.nii") else FOUND

    monkeypatch.setattr(prediction, "download", lambda *_: tmp_path)
    monkeypatch.setattr(predictor.Predictor, "load", lambda folder: Loaded(often[0]))
    often = [TestTime()]

    def run(*files: str, as_json: bool = False, looks: TestTime | None = None) -> None:
        often[0] = looks or TestTime()
        paths = [Path(file) for file in files]
        prediction.run(Workspace(tmp_path), paths, name="ward", version="1", as_json=as_json)

    return run


def test_paths_and_classes_are_shown_as_they_were_given(capsys) -> None:
    files = ["in/scan[left].nii.gz", "in/a[/b].nii"]
    rows = [(file, FOUND) for file in files]
    out.print(table("ward @x[1]", ["[no]", "yes"], rows, {"yes": 0.6}))
    shown = capsys.readouterr().out
    for words in (*files, "[no]", "ward @x[1]", "0.250", "axial 0-1"):
        assert words in shown


def test_what_the_numbers_of_slices_mean_is_said(command, capsys) -> None:
    command("a.nii")
    assert "numbered from 0, in the order in which the file has them" in capsys.readouterr().out


def test_how_often_the_model_looked_is_told(command, capsys) -> None:
    looks = TestTime(budget=4, views=("flip_vertical",))
    command("a.nii", looks=looks)
    told = " ".join(capsys.readouterr().out.split())
    assert f"looked at each exam {looks.words}" in told
    command("a.nii")
    assert "looked at each exam" not in capsys.readouterr().out
    for one in (looks, TestTime()):
        with pytest.raises(SystemExit):
            command("a.nii", "bad.nii", as_json=True, looks=one)
        found, fault = json.loads(capsys.readouterr().out)
        assert found["looked"] == one.words
        assert "looked" not in fault


def test_classes_above_their_threshold_are_shown_with_the_thresholds(command, capsys) -> None:
    command("a.nii")
    assert "thresholds, chosen on validation exams: yes 0.625" in capsys.readouterr().out
    for found, shown in ((FOUND, "yes"), (BELOW, "none")):
        out.print(table("ward", ["[no]", "yes"], [("a.nii", found)], {"yes": 0.6}))
        _, header, row = capsys.readouterr().out.splitlines()[:3]
        assert row[header.index("above threshold") :].split()[0] == shown


def test_without_thresholds_none_are_shown(capsys) -> None:
    out.print(table("ward", ["[no]", "yes"], [("a.nii", BELOW)], {}))
    assert "threshold" not in capsys.readouterr().out


def test_files_at_fault_are_lines_beside_the_others_and_exit_code_2(command, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        command("a.nii", "[x]bad.nii", "b.nii")
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.err == "error: [x]bad.nii: no such file\n"
    assert "a.nii" in told.out
    assert "b.nii" in told.out


def test_in_json_a_file_at_fault_is_an_entry_with_its_error(command, capsys) -> None:
    with pytest.raises(SystemExit):
        command("a.nii", "bad.nii", as_json=True)
    one, other = json.loads(capsys.readouterr().out)
    assert (one["file"], one["label"], one["plane"]) == ("a.nii", "yes", "axial")
    assert one["above_threshold"] == ["yes"]
    assert other == {"file": "bad.nii", "error": "bad.nii: no such file"}


def test_a_name_that_is_not_utf_8_is_shown(command, capsys) -> None:
    command("M\udcfcller.nii")
    assert r"M\xfcller.nii" in capsys.readouterr().out


def test_nothing_but_faults_gives_no_table(command, capsys) -> None:
    with pytest.raises(SystemExit):
        command("bad.nii")
    assert capsys.readouterr().out == ""


def test_the_folder_that_all_lie_in_is_told_once(command, capsys) -> None:
    command("in/may/a.nii", "in/june/b.nii")
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.rstrip() == "ward 1, files in in/"
    assert [row.split()[0] for row in rows[:2]] == ["may/a.nii", "june/b.nii"]


def test_paths_without_a_folder_in_common_are_shown_whole(command, capsys) -> None:
    command("/a/b.nii", "c.nii")
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.rstrip() == "ward 1"
    assert [row.split()[0] for row in rows[:2]] == ["/a/b.nii", "c.nii"]

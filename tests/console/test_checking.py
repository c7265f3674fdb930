import json

import pytest
from click.testing import CliRunner

from keyslice.cli import main
from keyslice.config import PhantomDataset, Workspace, load
from keyslice.console import checking
from keyslice.exams import checks, manifest
from keyslice.exams.exam import exam_path
from keyslice.exams.finding import Finding
from keyslice.exams.ingestion import ingest

SPOTS = "spots: {source: phantom, kind: volume, exams: 12, classes: [healthy, lesion]}"


@pytest.fixture
def workspace(tmp_path, monkeypatch, folder_params) -> Workspace:
    """With twelve phantoms."""
    folder_params("ward")
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("datasets: {", f"datasets: {{{SPOTS}, "))
    monkeypatch.chdir(tmp_path)
    dataset = load(path).dataset("spots")
    assert isinstance(dataset, PhantomDataset)
    ingest(Workspace(tmp_path), "spots", dataset)
    return Workspace(tmp_path)


def test_a_sound_dataset_ends_with_exit_code_0(workspace):
    told = CliRunner().invoke(main, ["check", "spots"])
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[-1].startswith("spots: nothing wrong")


def test_damage_ends_with_exit_code_1_and_names_the_exam_and_the_way_out(workspace):
    exam = manifest.read(workspace.manifest("spots"))["exam_id"][4]
    exam_path(workspace.exams("spots"), exam).write_bytes(b"")
    told = CliRunner().invoke(main, ["check", "spots"])
    assert told.exit_code == 1
    assert told.stdout.startswith("wrong ")
    assert exam[:12] in told.stdout
    assert "\n       dvc checkout --force data/exams/spots.dvc" in told.stdout
    assert "spots: 1 wrong" in told.stdout


def test_json_holds_every_exam_of_every_finding(workspace):
    rows = manifest.read(workspace.manifest("spots"))
    for exam in rows["exam_id"]:
        exam_path(workspace.exams("spots"), exam).unlink()
    told = CliRunner().invoke(main, ["check", "spots", "--json"])
    assert told.exit_code == 1
    shown = json.loads(told.stdout)
    assert shown["wrong"] == 1
    assert shown["findings"][0]["check"] == "missing"
    assert shown["findings"][0]["exams"] == [*rows["exam_id"]]


def test_a_dataset_not_ingested_ends_with_exit_code_2(workspace):
    told = CliRunner().invoke(main, ["check", "ward"])
    assert told.exit_code == 2
    assert "keyslice ingest ward" in told.stderr


def test_no_line_is_longer_than_80_columns(workspace, monkeypatch):
    exams = tuple(f"{n:032x}" for n in range(2**40, 2**40 + 30))
    found = [Finding("wrong", "x", "are " + "odd " * 30, "mend " * 30, exams, exams)]
    monkeypatch.setattr(checks, "run", lambda *_: found)
    told = CliRunner().invoke(main, ["check", "spots"], env={"COLUMNS": "80"})
    assert max(map(len, told.stdout.splitlines())) <= 80


def test_ten_exams_are_shown_and_the_others_counted():
    exams = tuple(f"{n:02d}" + "0" * 30 for n in range(12))
    line = checking.line(Finding("note", "x", "are odd", "look", exams))
    assert line.startswith("exams that are odd (12): 000000000000, 010000000000,")
    assert line.endswith("090000000000 and 2 more\nlook")


def test_both_exams_of_a_pair_are_shown():
    line = checking.line(Finding("note", "x", "are like another", "", ("a" * 32,), ("b" * 32,)))
    assert line == f"exams that are like another (1): {'a' * 12} ~ {'b' * 12}"


def test_names_in_brackets_are_shown_as_they_are(workspace, monkeypatch):
    found = [Finding("note", "class", "class '[red]' has no exams")]
    monkeypatch.setattr(checks, "run", lambda *_: found)
    assert "'[red]'" in CliRunner().invoke(main, ["check", "spots"]).stdout

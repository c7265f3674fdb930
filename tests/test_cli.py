import subprocess
import sys

import pytest
from click.testing import CliRunner

from keyslice.cli import main


def test_help_lists_every_command():
    told = CliRunner().invoke(main, ["--help"])
    assert told.exit_code == 0
    for name in main.commands:
        assert f"\n  {name} " in told.output


@pytest.mark.parametrize("group", [[], ["key"], ["stage"]])
def test_no_line_of_a_list_of_commands_is_cut_at_80_columns(group):
    told = CliRunner().invoke(main, [*group, "--help"], terminal_width=80)
    assert "..." not in told.output.partition("Commands:")[2]
    assert max(map(len, told.output.splitlines())) <= 80


def test_outside_a_workspace_is_a_mistake_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["inbox"])
    assert told.exit_code == 2
    assert "cd into a clone" in told.output


@pytest.mark.parametrize("module", ["keyslice.cli", "flows", "flows.due", "keyslice.exams.lock"])
def test_starting_up_imports_nothing_heavy(module):
    heavy = ("torch", "mlflow", "prefect", "dvc", "pandas", "nibabel", "lightning")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_key_is_made_for_its_owner_alone(tmp_path):
    file = tmp_path / "key"
    told = CliRunner().invoke(main, ["key", "new", str(file)])
    assert told.exit_code == 0
    assert file.stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(main, ["key", "new", str(file)]).exit_code == 2


def test_a_full_disk_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    def crashes():
        raise OSError(28, "No space left on device", "/inbox/doe_jane.nii.gz")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keyslice.cli._workspace", crashes)
    told = CliRunner().invoke(main, ["inbox"])
    assert told.exit_code == 1
    assert told.output.startswith("failed: no space left on device")
    assert (told.output.count("\n"), "doe" in told.output) == (1, False)


def test_what_nobody_foresaw_is_one_line_and_a_log_without_messages(tmp_path, monkeypatch):
    said = "doe_jane.nii.gz at http://me:secret@host"

    def crashes():
        raise KeyError(said)

    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keyslice.cli._workspace", crashes)
    told = CliRunner().invoke(main, ["inbox"])
    log = tmp_path / "state/logs/crashes.log"
    assert told.exit_code == 1
    assert told.output.startswith("failed: KeyError: 'doe_jane.nii.gz at http://host'")
    assert told.output.endswith("state/logs/crashes.log\n")
    assert told.output.count("\n") == 1
    assert "in crashes\n" in log.read_text()
    assert "doe_jane" not in log.read_text()


def test_clicks_own_refusals_are_no_crash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["stage", "train", "--nonsense"])
    assert told.exit_code == 2
    assert "No such option" in told.output

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
    told = CliRunner().invoke(main, ["status"])
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

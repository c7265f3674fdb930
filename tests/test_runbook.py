"""docs/operations.md, the units of systemd and prefect.yaml agree with each other and the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.deployments import ARRIVED, resource_of
from flows.environment import environment
from keyslice.config import Workspace, load
from keyslice.exams import barred, keyring
from keyslice.exams.pseudonym import KEY_VARIABLE, create_key, mark, secret_key
from keyslice.ingest import ingest_dataset
from keyslice.provenance.installation import installation
from tests import runbook
from tests.scans import PARAMS, ROOT, clone, write_exams

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def _settings(unit: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_service_finds_what_the_installation_has_laid_down(unit):
    commands = runbook.blocks("Install")[0]
    settings = _settings(unit)
    assert settings["WorkingDirectory"] == runbook.HOME
    assert settings["ExecStart"].startswith(f"{runbook.HOME}/.venv/bin/keyslice ")
    written = commands.index(f"tee {settings['EnvironmentFile']}\n")
    assert commands.index(" key new ") < written < commands.index("systemctl enable")
    assert commands.splitlines()[0].endswith(f" {settings['User']}")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_command_by_hand_is_run_as_the_service(unit):
    script, settings = runbook.WRAPPER.read_text(), _settings(unit)
    for option in (
        f"--uid={settings['User']}",
        f"--working-directory={settings['WorkingDirectory']}",
        f"--property=EnvironmentFile={settings['EnvironmentFile']}",
        f"--property=UMask={settings['UMask']}",
    ):
        assert f" {option} " in script
    assert f"PATH={Path(settings['ExecStart'].split()[0]).parent}:" in script
    assert runbook.WRAPPER.stat().st_mode & 0o111


def test_a_command_by_hand_gets_its_words_as_they_are_and_ends_as_it_does(tmp_path):
    (tmp_path / "home").mkdir()
    machine = runbook.Machine(tmp_path, tmp_path / "home")
    (machine.settings / "environment").write_text("KEYSLICE_ACTOR=ann\n")
    machine.program("keyslice", 'printf "%s|" "$@" "$KEYSLICE_ACTOR" "$PWD"; exit 7')
    done = machine.run("as-keyslice keyslice approve --reason 'for $HOME,  $5' ''")
    words = ["approve", "--reason", "for $HOME,  $5", "", "ann", f"{tmp_path / 'home'}|"]
    assert (done.stdout, done.returncode) == ("|".join(words), 7)


@pytest.mark.forked_dvc
def test_the_key_is_rotated_as_the_page_says(tmp_path, monkeypatch):
    """By real commands; the person at the editor writes what the page shows."""
    workspace = Workspace(tmp_path / "workspace")
    ward = {
        key: value for key, value in PARAMS["datasets"]["scans"].items() if key != "identifiers"
    }
    workspace.root.mkdir()
    clone(workspace.root, {**PARAMS, "datasets": {"liver": {**ward, "settle": 0}}})
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=workspace.root, check=True)
    machine = runbook.Machine(tmp_path, workspace.root)
    create_key(machine.settings / "key")
    monkeypatch.setenv(KEY_VARIABLE, str(machine.settings / "key"))
    former = mark(secret_key(workspace))
    write_exams(workspace.inbox("liver"), range(8))
    ingest_dataset(workspace, load(workspace.params), "liver")

    block, lines = runbook.blocks("Rotate the key", fence="(?:bash)?")
    environment = machine.settings / "environment"
    machine.program("sudoedit", f"cat > {environment} <<'END'\n{machine.here(lines)}END")
    machine.program("keyslice", f'exec {sys.executable} -P -m keyslice.cli "$@"')
    write_exams(workspace.inbox("liver"), range(8, 10))
    monkeypatch.delenv(KEY_VARIABLE)
    machine.succeeds(block)
    monkeypatch.setenv(KEY_VARIABLE, str(machine.settings / "key-2027"))
    needed = keyring.needed(workspace, "liver", barred.read(workspace, "liver"))
    assert set(needed) == {mark(secret_key(workspace)), former}
    assert machine.called == ["stop keyslice", "start keyslice"]


@pytest.mark.parametrize("section", ["Backup and restore", "Upgrade", "Rotate the key"])
def test_where_a_step_fails_those_after_it_are_not_run(tmp_path, section):
    block = runbook.blocks(section)[0]
    machine, tried = runbook.Machine(tmp_path, tmp_path), tmp_path / "tried"
    steps = len(re.findall(r"^ *(?:sudo|as-keyslice) ", block.replace("sudoedit", "sudo"), re.M))
    for failing in range(1, steps + 2):
        tried.write_text("")
        script = f"echo x >> {tried}; test $(wc -l < {tried}) -ne {failing}"
        for name in ("sudo", "as-keyslice", "sudoedit"):
            machine.program(name, script)
        assert machine.run(block).returncode == (failing <= steps)
        assert tried.read_text().count("x") == min(failing, steps)


def test_the_services_home_is_not_the_clone():
    [home] = re.findall(r"--home-dir (\S+)", runbook.blocks("Install")[0])
    assert not f"{home}/".startswith(f"{runbook.HOME}/")
    assert not f"{runbook.HOME}/".startswith(f"{home}/")


def test_a_work_pool_starts_what_the_service_would(tmp_path, monkeypatch):
    from prefect.utilities.templating import apply_values

    workspace = Workspace(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    given = {"KEYSLICE_WORKSPACE": str(tmp_path), "KEYSLICE_INSTALLATION": installation(workspace)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    [deployment] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    deployment = apply_values(deployment, given, remove_notset=False)
    [trigger] = deployment["triggers"]
    assert trigger["expect"] == [ARRIVED]
    assert trigger["match"] == resource_of(workspace, deployment["parameters"]["dataset"])
    variables, own = deployment["work_pool"]["job_variables"]["env"], environment(workspace)
    assert variables == {name: own[name] for name in variables}
    assert {"DO_NOT_TRACK", "PREFECT_CLIENT_MAX_RETRIES"} <= set(variables)

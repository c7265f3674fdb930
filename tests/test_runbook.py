"""docs/operations.md, the units of systemd and prefect.yaml agree with each other and the code."""

import re

import pytest
import yaml

from flows.deployments import ARRIVED, resource_of
from flows.environment import environment
from keyslice.config import Workspace
from keyslice.provenance.installation import installation
from tests import runbook
from tests.scans import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_service_finds_what_the_installation_has_laid_down(unit):
    commands = runbook.blocks("Install")[0]
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert settings["WorkingDirectory"] == runbook.HOME
    assert settings["ExecStart"].startswith(f"{runbook.HOME}/.venv/bin/keyslice ")
    written = commands.index(f"tee {settings['EnvironmentFile']}\n")
    assert commands.index(" key new ") < written < commands.index("systemctl enable")
    assert commands.splitlines()[0].endswith(f" {settings['User']}")


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

"""`keyslice inbox`: what is in the way of one dataset hides no other."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from keyslice.cli import main
from tests.scans import PARAMS, write_exams


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`scans` has public ids; `ward` and `clinic` have secret ones, and no key is set."""
    public = {**PARAMS["datasets"]["scans"], "settle": 0}
    secret = {key: value for key, value in public.items() if key != "identifiers"}
    phantoms = {"source": "phantom", "kind": "volume", "exams": 12, "classes": ["no", "yes"]}
    datasets = {"ward": secret, "scans": public, "clinic": secret, "spots": phantoms}
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({**PARAMS, "datasets": datasets}, sort_keys=False)
    )
    for name in ("ward", "scans", "clinic"):
        write_exams(tmp_path / "data" / "inbox" / name, range(3))
    monkeypatch.delenv("KEYSLICE_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["inbox", *arguments])


@pytest.mark.usefixtures("workspace")
def test_what_is_in_the_way_of_one_dataset_hides_no_other() -> None:
    told = asked()
    assert told.exit_code == 2
    assert told.stdout == "scans: 3 new exams\n"
    first, second = told.stderr.splitlines()
    assert first.startswith("error: ward: KEYSLICE_KEY_FILE is not set; ")
    assert second.startswith("error: clinic: KEYSLICE_KEY_FILE is not set; ")
    assert len(json.loads(asked("--json").stdout)["scans"]["new"]) == 3


@pytest.mark.usefixtures("workspace")
def test_of_a_dataset_that_cannot_be_told_of_nothing_is_printed_but_why() -> None:
    told = asked("ward", "--json")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.startswith("error: ward: KEYSLICE_KEY_FILE is not set; ")


@pytest.mark.usefixtures("workspace")
def test_a_dataset_whose_source_is_no_folder_has_no_inbox() -> None:
    told = asked("spots")
    assert told.exit_code == 2
    assert "the source of spots is no folder" in told.stderr

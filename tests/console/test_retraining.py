"""What `retrain` and `register` say for scripts, and of exams that were refused."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from keyslice import versioning
from keyslice.cli import main
from keyslice.config import Workspace
from keyslice.console import registration, results, retraining

COUNTS = {"exams": 238, "patients": 200, "quarantined": 2}


@pytest.fixture
def workspace(tmp_path, folder_params, monkeypatch) -> Workspace:
    """Two datasets; what others answer is given."""
    folder_params("a", "b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(versioning, "recover", lambda *_: False)
    monkeypatch.setattr(versioning, "prepared_version", lambda _, name: f"{name}.dir")
    monkeypatch.setattr(retraining, "due", lambda *_: [])
    monkeypatch.setattr(retraining, "published", lambda *_: 3)
    monkeypatch.setattr(retraining, "show_comparison", lambda *_: None)
    monkeypatch.setattr(results, "counts", lambda *_: COUNTS)
    return Workspace(tmp_path)


def told(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result


def retrained(monkeypatch: pytest.MonkeyPatch) -> None:
    done = [
        SimpleNamespace(dataset=name, run_id=f"run of {name}", model_version=4, warnings=())
        for name in "ab"
    ]
    monkeypatch.setattr(retraining, "due", lambda *_: ["a: results are not registered"])
    monkeypatch.setattr("flows.retrain.run", lambda *_, **__: done)


def entry(name: str, run_id: str | None, model_version: int) -> dict:
    return {
        "dataset_version": f"{name}.dir",
        "run_id": run_id,
        "model_version": model_version,
        "gate": None,
        "exams": 238,
        "quarantined": 2,
    }


@pytest.mark.usefixtures("workspace")
def test_a_script_reads_what_was_retrained(monkeypatch) -> None:
    retrained(monkeypatch)
    found = json.loads(told("retrain", "a", "b", "--json").stdout)
    assert found == {name: entry(name, f"run of {name}", 4) for name in "ab"}


@pytest.mark.usefixtures("workspace")
def test_one_that_is_stopped_has_not_failed(monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    retrained(monkeypatch)
    monkeypatch.setattr("flows.retrain.run", interrupted)
    result = CliRunner().invoke(main, ["retrain", "a", "--json"])
    assert result.exit_code == 130
    last = result.stderr.splitlines()[-1]
    assert last == "stopped; the same command goes on from what is done"


@pytest.mark.usefixtures("workspace")
def test_a_script_reads_the_model_that_is_there_where_nothing_is_new() -> None:
    assert json.loads(told("retrain", "a", "--json").stdout) == {"a": entry("a", None, 3)}


@pytest.mark.usefixtures("workspace")
def test_a_script_reads_what_was_registered(monkeypatch) -> None:
    made = SimpleNamespace(version="5", run_id="run of a")
    monkeypatch.setattr(registration, "publish", lambda *_: made)
    assert json.loads(told("register", "a", "--json").stdout) == {"a": entry("a", "run of a", 5)}


@pytest.mark.usefixtures("workspace")
def test_refused_exams_are_told_after_a_retraining(monkeypatch) -> None:
    retrained(monkeypatch)
    assert (
        "238 exams, 2 quarantined, the reasons in data/quarantine/a.csv"
        in told("retrain", "a", "b").stdout
    )

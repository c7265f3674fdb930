import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from flows import attempts, due
from keyslice import versioning
from keyslice.config import Params, PhantomDataset, Workspace, load
from keyslice.console import overview
from keyslice.console.overview import counts
from keyslice.errors import RunError, UserError
from keyslice.exams.ingestion import ingest
from keyslice.registry.models import Model
from keyslice.registry.retrainings import Retraining
from keyslice.stages.running import only_process_of, only_retraining

NOW = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
PARAMS = Path(__file__).parents[1] / "tiny_workspace" / "params.yaml"
NAME = "phantom_volumes"


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "params.yaml").touch()
    dataset = PhantomDataset(
        source="phantom", kind="volume", exams=12, classes=("healthy", "lesion")
    )
    ingest(Workspace(tmp_path), "spots", dataset)
    return Workspace(tmp_path)


def test_an_empty_quarantine_list_counts_nobody(workspace):
    workspace.quarantine("spots").parent.mkdir()
    workspace.quarantine("spots").touch()
    assert counts(workspace, "spots") == {"exams": 12, "patients": 6, "quarantined": 0}


def test_a_damaged_manifest_is_a_users_error(workspace):
    workspace.manifest("spots").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        counts(workspace, "spots")


@pytest.fixture
def ward(tmp_path, monkeypatch) -> tuple[Workspace, Params]:
    """A workspace with one dataset that counts as ingested, and an MLflow that knows of it."""
    workspace = Workspace(tmp_path)
    workspace.params.write_text(PARAMS.read_text().replace("  tiny:", f"  {NAME}:"))
    retraining = Retraining("run", NAME, "1.dir", "running", NOW, None)
    model = Model(NAME, 12, ("challenger",), "das_paper", 2, float("nan"), NOW)
    for module, name, answer in [
        (due, "source_state", "unchanged"),
        (overview, "last_retrainings", {NAME: retraining}),
        (overview, "models", [model]),
    ]:
        monkeypatch.setattr(module, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(versioning, "version", lambda *_: "0123456789abcdef.dir")
    monkeypatch.setattr(versioning, "stale", lambda _, names: [f"train@{n}-full" for n in names])
    return workspace, load(workspace.params)


@pytest.fixture
def told(ward, capsys):
    """`told()`: what `keyslice status --json` says."""

    def ask() -> dict:
        overview.run(ward[0], as_json=True)
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return ask


def test_json_has_no_nan(told):
    [model] = told()["models"]
    assert model["auc"] is None


def test_while_a_dataset_is_retrained_that_is_what_is_told(ward, told):
    stage = f"train@{NAME}-full"
    with only_retraining(ward[0], [NAME], "keyslice retrain"), only_process_of(ward[0], stage):
        shown = told()
    assert [one["name"] for one in shown["running"]] == [f"retrain-{NAME}", stage]
    assert shown["datasets"][NAME]["last_retraining"]["state"] == "running"
    assert shown["datasets"][NAME]["due"] is None


def test_a_retraining_that_nobody_carries_on_was_cut_off(told):
    shown = told()
    assert shown["running"] == []
    assert shown["datasets"][NAME]["last_retraining"]["state"] == "cut off"
    assert shown["datasets"][NAME]["due"] == "out of date: train full"


def test_a_source_that_is_not_there_has_not_changed(told, monkeypatch):
    monkeypatch.setattr(due, "source_state", lambda *_: "unseen")
    assert "cannot be seen" in told()["datasets"][NAME]["due"]


@pytest.mark.parametrize("source", ["unchanged", "changed", "unseen"])
@pytest.mark.parametrize("stale", [[], [f"train@{NAME}-full"]])
def test_what_is_due_is_what_the_service_would_say(ward, told, monkeypatch, source, stale):
    asked: list[object] = []
    monkeypatch.setattr(due, "source_state", lambda *_: source)
    monkeypatch.setattr(versioning, "stale", lambda *_: asked.append(_) or stale)
    [reason] = due.due(*ward, [NAME])
    asked.clear()
    assert f"{NAME}: {told()['datasets'][NAME]['due']}" == reason
    assert len(asked) == 1  # it takes DVC seconds


def test_while_settings_break_a_rule_the_rest_is_told(ward, capsys):
    workspace, _ = ward
    attempt = attempts.begin(workspace, NAME, "schedule", "run")
    attempts.end(workspace, NAME, attempt, "retrained", "version 3, gate: passed")
    (workspace.state / "service" / f"{NAME}.schedule.json").write_text("{}")
    workspace.params.write_text(workspace.params.read_text() + "evaluation: {}\n")
    with pytest.raises(UserError, match="evaluation"):
        overview.run(workspace, as_json=True)
    told = json.loads(capsys.readouterr().out)
    [(name, facts)] = told["datasets"].items()
    assert (name, facts["version"], facts["source"]) == (NAME, "0123456789abcdef.dir", None)
    assert facts["last_attempt"].startswith("schedule; retrained: version 3, gate: passed, took 0:")
    assert [one["name"] for one in told["models"]] == [NAME]
    with pytest.raises(UserError, match="evaluation"):
        overview.run(workspace, as_json=False)
    assert f"{NAME}: last attempt: schedule; retrained" in capsys.readouterr().out


@pytest.mark.parametrize("least", [1, 5])
def test_that_the_service_waits_for_more_exams_is_told(tmp_path, monkeypatch, least):
    workspace = Workspace(tmp_path)
    workspace.params.write_text(PARAMS.read_text() + f"retrain: {{minimum_new_exams: {least}}}\n")
    monkeypatch.setattr(due, "source_state", lambda *_: "changed")
    monkeypatch.setattr(versioning, "version", lambda *_: "0123456789abcdef.dir")
    told = overview._reason(workspace, load(workspace.params), "tiny", [])
    assert told is not None
    assert ("the service waits for 5 new exams" in told) == (least == 5)


def test_what_is_done_is_not_due(told, monkeypatch):
    monkeypatch.setattr(versioning, "stale", lambda *_: [])
    monkeypatch.setattr(due, "_unfinished", lambda *_: "")
    assert told()["datasets"][NAME]["due"] is None


def test_of_several_parts_that_fail_each_is_told(ward, monkeypatch, capsys):
    def fails(error):
        def ask(*_):
            raise error

        return ask

    manifest = ward[0].manifest(NAME)
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b"PAR1")
    no_memory = versioning.DVCError("dvc status: no memory left")
    monkeypatch.setattr(versioning, "stale", fails(no_memory))
    away = RunError("MLflow at http://ann:secret@far does not answer")
    monkeypatch.setattr(overview, "last_retrainings", fails(away))
    with pytest.raises(RunError, match="MLflow at"):
        overview.run(ward[0], as_json=True)
    shown = capsys.readouterr()
    told = json.loads(shown.out)["datasets"][NAME]
    assert (told["exams"], told["due"]) == (None, "what is out of date cannot be told now")
    first, second = shown.err.splitlines()
    assert first.startswith("error: ")
    assert "cannot be read as a manifest" in first
    assert second == "failed: dvc status: no memory left"


def test_a_manifest_that_cannot_be_read_hides_no_table(ward, capsys):
    ward[0].manifest(NAME).parent.mkdir(parents=True)
    ward[0].manifest(NAME).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        overview.run(ward[0], as_json=False)
    assert "0123456789ab" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["last_retrainings", "models"])
def test_without_mlflow_the_datasets_are_told_and_then_what_failed(ward, monkeypatch, capsys, part):
    def fails(*_):
        raise RunError("MLflow does not answer")

    monkeypatch.setattr(overview, part, fails)
    with pytest.raises(RunError, match="does not answer"):
        overview.run(ward[0], as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["datasets"][NAME]["version"] == "0123456789abcdef.dir"
    assert shown["models"] is None


def test_without_dvc_the_models_are_told_and_then_what_failed(ward, monkeypatch, capsys):
    def fails(*_):
        raise versioning.DVCError("dvc status: no memory left")

    monkeypatch.setattr(versioning, "stale", fails)
    with pytest.raises(RunError, match="no memory left"):
        overview.run(ward[0], as_json=True)
    assert len(json.loads(capsys.readouterr().out)["models"]) == 1


def test_everything_fits_80_columns(ward, monkeypatch):
    console = Console(width=80, record=True, highlight=False)
    monkeypatch.setattr(overview, "out", console)
    stage = f"train@{NAME}-das_paper"
    with only_retraining(ward[0], [NAME], "keyslice retrain"), only_process_of(ward[0], stage):
        overview.run(ward[0], as_json=False)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert any("2030-01-31 12:30" in line and "running" in line for line in lines)
    assert any(stage in line for line in lines)

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from keyslice import versioning
from keyslice.config import Params, Workspace, load
from keyslice.exams import manifest
from keyslice.exams.fingerprint import source_state
from keyslice.ingest import ingest_dataset

pytestmark = pytest.mark.forked_dvc

TEMPLATE = Path(__file__).parent / "tiny_workspace"
SPOTS = {"source": "phantom", "kind": "volume", "exams": 12, "classes": ["healthy", "lesion"]}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Params]:
    """A git and DVC workspace whose list of datasets is damaged: DVC can read no graph."""
    root = tmp_path_factory.mktemp("ingest") / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["datasets"]["spots"] = SPOTS
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    (root / "data" / "datasets.yaml").write_text("")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return Workspace(root), load(root / "params.yaml")


def test_an_ingestion_restores_the_list_records_a_version_and_keeps_its_manifest(opened):
    workspace, params = opened
    done = ingest_dataset(workspace, params, "spots")
    assert yaml.safe_load(workspace.ingested.read_text()) == {"ingested": ["spots"]}
    kept = workspace.kept_manifest("spots", done.version)
    assert kept.read_bytes() == workspace.manifest("spots").read_bytes()
    again = ingest_dataset(workspace, params, "spots")
    assert (again.version, again.previous) == (done.version, done.version)
    assert list(workspace.manifests("spots").iterdir()) == [kept]


def test_a_dataset_taken_out_of_the_settings_no_longer_stops_dvc(opened):
    workspace, params = opened
    ingest_dataset(workspace, params, "spots")
    whole = workspace.params.read_text()
    settings = yaml.safe_load(whole)
    del settings["datasets"]["spots"]
    workspace.params.write_text(yaml.safe_dump(settings))
    assert versioning.stale(workspace, ["spots"]) == []
    command = [sys.executable, "-m", "dvc", "repro"]
    subprocess.run(command, cwd=workspace.root, check=True, capture_output=True)
    workspace.params.write_text(whole)
    assert "prepare@spots" in versioning.stale(workspace, ["spots"])


@pytest.mark.parametrize(
    "place",
    [
        "keyslice.exams.listed.bring_in_line",
        "keyslice.versioning.record_version",
        "keyslice.exams.history.keep",
        "keyslice.exams.fingerprint.record",
    ],
)
def test_an_ingestion_killed_on_the_way_to_its_version_is_completed_by_the_next(
    opened, monkeypatch, place
):
    workspace, params = opened
    ingest_dataset(workspace, params, "spots")
    more = len(manifest.read(workspace.manifest("spots"))) + 2
    dataset = params.dataset("spots").model_copy(update={"exams": more})
    params = params.model_copy(update={"datasets": {"spots": dataset}})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(place, killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_dataset(workspace, params, "spots")
    assert source_state(workspace, "spots", dataset) != "unchanged"

    done = ingest_dataset(workspace, params, "spots")
    assert done.report.present == more
    assert done.version == versioning.version(workspace, "spots")
    [recorded] = yaml.safe_load(workspace.pointer("spots").read_text())["outs"]
    assert recorded["nfiles"] == more + 1
    kept = workspace.kept_manifest("spots", done.version)
    assert kept.read_bytes() == workspace.manifest("spots").read_bytes()
    assert source_state(workspace, "spots", dataset) == "unchanged"

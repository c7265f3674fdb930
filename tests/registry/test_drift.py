import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from keyslice import versioning
from keyslice.cli import main
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import manifest
from keyslice.provenance.installation import installation
from keyslice.registry import drift, tags
from keyslice.registry.client import connect
from keyslice.registry.mirror import Mirror

OLD, OLDER = "0ld.dir", "0lder.dir"


def _row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "exam_id": f"{number:032x}",
        "patient": f"{number:032x}",
        "label": "lesion" if number % 2 else "healthy",
        "split": "train",
        "batch": "0001",
        "frames": 20 + number % 3,
        "height": 64,
        "width": 64,
        "channels": 1,
        "dtype": "int16",
        "modality": "CT",
        "site": "north",
        "acquired": "unknown",
        "source_format": "nifti",
        "sha256": f"{number:064x}",
        "label_source": "labels.csv:label",
        "labeller": "unknown",
        "informative": None,
        "facts": "{}",
        "difference_hash": "0" * 48,
        "constant_frames": 0,
        "intensity_mean": 10.0,
        "intensity_sd": 2.0,
        "intensity_low": 5.0,
        "intensity_high": 15.0,
    } | changes


@pytest.fixture
def now(workspace: Workspace) -> str:
    """The dataset's version, whose manifest is kept, as those of two older ones are.

    It has 20 exams more than the one before, all longer and of a new site.
    """
    version = versioning.version(workspace, "tiny")
    assert version is not None
    new = [_row(100 + n, frames=60 + n, site="south | east") for n in range(20)]
    known = [_row(n) for n in range(30)]
    for name, rows in {OLDER: known[:20], OLD: known, version: known + new}.items():
        manifest.write(manifest.frame(rows), workspace.kept_manifest("tiny", name), {})
    return version


def _registered(workspace: Workspace, version: str, **others: str) -> None:
    """As `register` does it, of a model that was trained on this version of the dataset."""
    client = connect(workspace)
    if not client.search_registered_models("name = 'tiny'"):
        client.create_registered_model("tiny")
    own = {tags.DATASET: "tiny", tags.VERSION: version}
    own[tags.INSTALLATION] = installation(workspace)
    client.create_model_version("tiny", source=str(workspace.state), tags=own | others)


def test_without_a_model_there_is_no_reference(workspace: Workspace, now: str) -> None:
    assert drift.find(workspace, "tiny") is None


def test_the_champion_is_the_reference_whichever_is_newer(workspace: Workspace, now: str) -> None:
    _registered(workspace, OLDER)
    _registered(workspace, OLD)
    found = drift.reference(workspace, "tiny", now)
    assert found == drift.Reference(2, "", OLD)
    connect(workspace).set_registered_model_alias("tiny", "champion", "1")
    found = drift.reference(workspace, "tiny", now)
    assert found == drift.Reference(1, "champion", OLDER)
    assert "@champion" in found.words


def test_a_model_of_the_same_version_or_of_another_installation_is_no_reference(
    workspace: Workspace, now: str
) -> None:
    _registered(workspace, OLD)
    _registered(workspace, now)
    _registered(workspace, OLDER, **{tags.INSTALLATION: "another"})
    assert drift.reference(workspace, "tiny", now) == drift.Reference(1, "", OLD)


def test_new_exams_are_compared_with_those_that_the_model_knows(
    workspace: Workspace, now: str
) -> None:
    _registered(workspace, OLD)
    found = drift.find(workspace, "tiny")
    assert found is not None
    assert (found.drift.reference_exams, found.drift.new_exams) == (30, 20)
    assert found.drift.shifted == ["site", "frames"]


def test_one_that_is_asked_for_is_the_reference(workspace: Workspace, now: str) -> None:
    _registered(workspace, OLDER)
    _registered(workspace, OLD)
    found = drift.find(workspace, "tiny", against="1")
    assert found is not None
    assert found.reference.version == OLDER
    with pytest.raises(UserError, match=r"--against: .*'@gone'.*keyslice status"):
        drift.find(workspace, "tiny", against="@gone")


def test_a_manifest_that_is_lost_is_named_with_the_way_out(workspace: Workspace, now: str) -> None:
    _registered(workspace, OLD)
    workspace.kept_manifest("tiny", OLD).unlink()
    with pytest.raises(UserError, match=r"state/manifests/tiny/0ld\.dir\.parquet.*backup"):
        drift.find(workspace, "tiny")


def test_what_is_kept_is_the_same_bytes_again_and_can_be_read(
    workspace: Workspace, now: str
) -> None:
    _registered(workspace, OLD)
    assert drift.kept(workspace, "tiny", now) is None
    written = []
    for _ in range(2):
        found = drift.find(workspace, "tiny")
        assert found is not None
        page = drift.keep(workspace, found)
        written.append((page.read_bytes(), page.with_suffix(".json").read_bytes()))
    assert written[0] == written[1]
    told = drift.kept(workspace, "tiny", now)
    assert told is not None
    assert told["shifted"] == ["site", "frames"]
    assert told["reference"] == {"model_version": 1, "alias": "", "version": OLD}
    [line] = [line for line in page.read_text().splitlines() if line.startswith("| frames ")]
    assert "| yes |" in line
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [line.replace("\\|", "").count("|") for line in rows]
    assert len(set(cells)) == 1  # also where a site's name holds a bar


def test_mlflow_shows_it_once_however_often_it_is_told(
    workspace: Workspace, now: str, tmp_path: Path
) -> None:
    _registered(workspace, OLD)
    found = drift.find(workspace, "tiny")
    assert found is not None
    mirror = Mirror(workspace, "tiny")
    run_id = mirror.begin()
    for _ in range(2):
        drift.log(workspace, run_id, found)
    metrics = mirror.client.get_run(run_id).data.metrics
    assert metrics["drift/shifted"] == 2
    assert metrics["drift/frames/effect"] == pytest.approx(1)
    assert metrics["drift/frames/p_corrected"] < 0.05
    assert len(mirror.client.get_metric_history(run_id, "drift/shifted")) == 1
    stored = {one.path for one in mirror.client.list_artifacts(run_id, "drift")}
    assert stored == {"drift/drift.json", "drift/drift.md", "drift/drift.csv"}
    path = mirror.client.download_artifacts(run_id, "drift/drift.json", str(tmp_path))
    assert json.loads(Path(path).read_text()) == json.loads(json.dumps(found.as_dict()))


def test_the_command_tells_what_shifted(
    workspace: Workspace, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    asked = CliRunner().invoke(main, ["drift", "tiny", "--json"])
    assert (asked.exit_code, asked.stdout) == (0, "null\n")
    _registered(workspace, OLD)
    asked = CliRunner().invoke(main, ["drift", "tiny", "--json"])
    assert json.loads(asked.stdout)["shifted"] == ["site", "frames"]
    asked = CliRunner().invoke(main, ["drift", "tiny", "--against", "1"])
    assert asked.exit_code == 0
    assert "20 new exams of 20 patients against 30 of 30: model version 1" in asked.stdout
    assert "Shifted: site, frames" in asked.stdout

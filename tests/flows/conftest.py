"""A Prefect server for tests of flows, and a tiny workspace whose stages take no time."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.exams.ingestion import IngestReport
from keyslice.ingest import Ingested

TEMPLATE = Path(__file__).parents[1] / "tiny_workspace"


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness  # the whole server: seconds

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a command sets stays within the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A git and DVC workspace with one exam, not ingested yet; ingestion only records it.

    Its exam is a text, which no model can be judged on: test_end_to_end.py has real ones.
    """
    root = tmp_path / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    settings = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(re.sub("  uniform: .*\n", "", settings))  # two are enough
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(root)
    workspace.exams("tiny").mkdir(parents=True)
    (workspace.exams("tiny") / "exam.npz").write_text("an exam")
    workspace.manifest("tiny").write_text("its manifest")
    workspace.state.mkdir()
    monkeypatch.setattr("keyslice.ingest.ingest_dataset", _ingest)
    monkeypatch.setattr("flows.tasks.LATENCY", ("true",))
    monkeypatch.setattr("keyslice.registry.gate.run", lambda *_: PASSED)
    return workspace


PASSED = SimpleNamespace(
    number=7,
    payload={"outcome": "passed", "approval": "required", "criteria": [], "warnings": []},
)

REPORT = IngestReport(
    barred=0,
    dataset="tiny",
    found=5,
    accepted=1,
    present=0,
    duplicates=0,
    waiting=0,
    left_out=1,
    quarantined=3,
    arriving=0,
    skipped=0,
    exams=1,
    across_splits=0,
    relabelled=0,
    removed=2,
    unused_lines=0,
    batch="0001",
    manifest_sha256="",
    refused=(),
    waits=(),
)


def _ingest(workspace: Workspace, params: object, name: str, **_: object) -> Ingested:
    previous = versioning.version(workspace, name)
    return Ingested(REPORT, versioning.record_version(workspace, name), previous)

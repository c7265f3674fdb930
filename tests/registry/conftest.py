"""A workspace whose stages have run: files as the stages write them, and dvc.lock beside them."""

import contextlib
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from keyslice import versioning
from keyslice.config import Params, Workspace, load
from keyslice.registry.client import connect

TEMPLATE = Path(__file__).parents[1] / "tiny_workspace"
VARIANTS = ("full", "uniform", "das")
LOOKS = {"test_time": {"variants": {"das": {"budget": 4, "aggregation": "learned"}}}}
"""The candidate's variant looks more than once, and learns how."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; each test takes a copy."""
    root = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    values = yaml.safe_load((root / "params.yaml").read_text()) | {"evaluate": LOOKS}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (root / "data/exams/tiny").mkdir(parents=True)
    (root / "data/exams/tiny/exam.npz").write_text("an exam")
    (root / "data/exams/tiny/manifest.parquet").write_text("its manifest")
    (root / "data/datasets.yaml").write_text("ingested: [tiny]\n")
    calls = [["prepare", "tiny"], ["compare", "tiny"]]
    calls[1:1] = [[stage, "tiny", name] for name in VARIANTS for stage in ("train", "evaluate")]
    stages = runpy.run_path(str(root / "stage.py"))
    with contextlib.chdir(root):
        for stage, *names in calls:
            stages[stage](*names)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    versioning.record_version(Workspace(root), "tiny")
    commit = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force"]
    subprocess.run(commit, cwd=root, check=True)  # as if DVC had run each stage, in one process
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(Workspace(root))  # the database's migrations take seconds: once for all copies
    return root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Workspace(Path(shutil.copytree(finished, tmp_path / "workspace")))


@pytest.fixture
def params(workspace: Workspace) -> Params:
    return load(workspace.params)

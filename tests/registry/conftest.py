"""A workspace whose stages have run: files as the stages write them, and dvc.lock beside them."""

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
VERSION = "a09178cb203f55e06a822ebae9679cb0.dir"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; each test takes a copy."""
    root = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "data/exams/tiny").mkdir(parents=True)
    (root / "data/exams/tiny.dvc").write_text(yaml.safe_dump({"outs": [{"md5": VERSION}]}))
    calls = [["prepare", "tiny"], ["compare", "tiny"]]
    calls[1:1] = [[stage, "tiny", name] for name in VARIANTS for stage in ("train", "evaluate")]
    for call in calls:
        subprocess.run([sys.executable, "stage.py", *call], cwd=root, check=True)
    names = versioning.stage_names("tiny", VARIANTS)
    entries = {name: {"cmd": name, "outs": [{"md5": name}]} for name in names}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(Workspace(root))  # the database's migrations take seconds: once for all copies
    return root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace(Path(shutil.copytree(finished, tmp_path / "workspace")))


@pytest.fixture
def params(workspace: Workspace) -> Params:
    return load(workspace.params)

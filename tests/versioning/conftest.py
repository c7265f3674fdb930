"""A git and DVC workspace of two datasets, both retrained since the last commit."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keyslice import versioning
from keyslice.config import Workspace

TEMPLATE = Path(__file__).parents[1] / "tiny_workspace"
DATASETS = ("tiny", "ward")

Git = Callable[..., str]


def _git(root: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, timeout=60
    )
    return answer.stdout


@pytest.fixture
def git(workspace: Workspace) -> Git:
    """`git("status", "--short")`: what it answers in the workspace, to the byte."""
    return lambda *arguments: _git(workspace.root, *arguments)


@pytest.fixture(scope="session")
def _retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("retrained") / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["datasets"] = dict.fromkeys(DATASETS, params["datasets"]["tiny"])
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "data/datasets.yaml").write_text(yaml.safe_dump({"ingested": list(DATASETS)}))
    _git(root, "init", "--quiet", "--initial-branch=main")
    for name in ("notes", "plan", "draft"):
        (root / name).write_text("".join(f"{name} {line}\n" for line in range(20)))
    workspace = Workspace(root)
    for round_ in (1, 2):
        for dataset in DATASETS:
            workspace.exams(dataset).mkdir(parents=True, exist_ok=True)
            workspace.manifest(dataset).write_text(f"the manifest of {dataset}")
            (workspace.exams(dataset) / f"{round_}.npz").write_text(f"exam {round_} of {dataset}")
        for command in (
            ("add", *(f"data/exams/{name}" for name in DATASETS)),
            ("repro", "prepare"),
        ):
            versioning.run([sys.executable, "-m", "dvc", *command], cwd=root)
        assert all(versioning.prepared_version(workspace, name) for name in DATASETS)
        if round_ == 1:
            _git(root, "config", "user.name", "Anna")
            _git(root, "config", "user.email", "anna@ward")
            _git(root, "add", ".")
            _git(root, "commit", "--quiet", "-m", "first")
    return root


@pytest.fixture
def workspace(_retrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Anna's. On branch main, both datasets have been prepared anew since the last commit."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    return Workspace(Path(shutil.copytree(_retrained, tmp_path / "workspace", symlinks=True)))

"""What a stage's results follow from is what dvc.yaml says."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# They guard a stage's work and its files; what they do is in no result.
GUARDS = {"errors", "files", "exams.lock", "stages.inputs", "stages.running"}


def imported(module: Path) -> set[str]:
    """Files and folders below src/keyslice that a module imports by itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keyslice"):
            base = node.module.removeprefix("keyslice").lstrip(".")
            # `from package import module`, or `from module import name`
            inner = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name for name in inner if place(name).exists()} or {base}
    return found - GUARDS


def place(name: str) -> Path:
    path = ROOT / "src/keyslice" / name.replace(".", "/")
    return path if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_imports_and_on_the_versions_of_the_libraries(
    stage: str,
) -> None:
    named = {ROOT / path for path in STAGES[stage]["deps"]}
    assert ROOT / "requirements.lock" in named
    own = place(f"stages.{stage}")
    for path in (own, *(place(name) for name in imported(own))):
        assert named & {path, *path.parents}, path


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_is_there(stage: str) -> None:
    code = [path for path in STAGES[stage]["deps"] if not path.startswith("data/")]
    assert [path for path in code if not (ROOT / path).exists()] == []

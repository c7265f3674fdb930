import json
from collections.abc import Callable

import pytest
import yaml

from keyslice import files
from keyslice.config import Params, Workspace, load
from keyslice.console import experiments
from keyslice.console.experiments import _setup

PARAMS = {
    "datasets": {"a": {"source": "folder", "classes": ["healthy", "lesion"]}},
    "prepare": {"image_size": 20},
    "backbone": {"name": "test_resnet", "weights": "none"},
    "model": {},
    "train": {"seeds": [0, 1]},
    "evaluate": {},
    "compare": {"references": ["full"]},
}
FULL = {"full": {"sampler": "full"}, "uniform": {"sampler": "uniform", "keep": 0.5}}


@pytest.fixture
def opened(tmp_path) -> Callable[[dict], tuple[Workspace, Params]]:
    def make(variants: dict) -> tuple[Workspace, Params]:
        workspace = Workspace(tmp_path)
        workspace.params.write_text(
            yaml.safe_dump(PARAMS | {"variants": variants}, sort_keys=False)
        )
        for name in variants:
            text = json.dumps({"weights": {"source": "none"}, "device": "cpu"})
            files.write_text(workspace.models("a", name) / "settings.json", text)
        return workspace, load(workspace.params)

    return make


def test_what_holds_for_all_variants_is_said_once(opened) -> None:
    words = "test_resnet, weights `none` · 20 × 20 pixels · seeds 0, 1"
    assert _setup(*opened(FULL), "a") == words


def test_a_variant_with_seeds_of_its_own_is_told_apart(opened) -> None:
    other = {"das": {"sampler": "das", "keep": 0.5, "train": {"seeds": [7]}}}
    told = _setup(*opened(FULL | other), "a").split("; ")
    assert [part.partition(":")[0] for part in told] == ["full, uniform", "das"]
    assert [part.rpartition("seeds ")[2] for part in told] == ["0, 1", "7"]


@pytest.mark.parametrize(("page", "expected"), [("page.md", "short"), ("README.md", "whole")])
def test_a_page_that_is_the_readme_keeps_the_whole_section(
    opened, monkeypatch: pytest.MonkeyPatch, page: str, expected: str
) -> None:
    workspace, params = opened(FULL)
    monkeypatch.setattr(experiments.retraining, "run", lambda *_, **__: None)
    monkeypatch.setattr(experiments, "section", lambda *_: "whole")
    monkeypatch.setattr(experiments, "summary", lambda *_: "short")
    readme = workspace.root / "README.md"
    readme.write_text(experiments.with_section("", "a", ""))
    experiments.run(workspace, params, ("a",), workspace.root / page)
    assert readme.read_text().splitlines()[3] == expected

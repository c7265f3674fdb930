import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keyslice.config import Params, Workspace, load
from keyslice.console import auditing
from keyslice.errors import UserError
from keyslice.provenance import events, ledger
from keyslice.provenance.evidence import Item
from keyslice.registry import verification

PARAMS = {
    "datasets": {"scans": {"source": "folder", "classes": ["clear", "nodule"]}},
    "variants": {"das": {"sampler": "das", "keep": 0.5}},
    "prepare": {}, "backbone": {}, "model": {}, "train": {}, "evaluate": {},
    "compare": {"references": ["das"]},
}  # fmt: skip
TEXTS = ("run", "training_run", "parameters", "weights", "package", "artifact", "requirements")
HASHES = ("identity", "manifest", "run_commit", "trained")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Params]:
    """A registered version of which nothing but the ledger is left."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    workspace, params = Workspace(tmp_path), load(tmp_path / "params.yaml")
    told = dict.fromkeys((*TEXTS, *HASHES), "") | {
        "model": "scans",
        "version": 3,
        "dataset_version": "ab" * 16,
        "variant": "das",
        "seed": 0,
        "validation_auc": 0.9,
        "settings": params.stage("scans", "das").model_dump(mode="json"),
        "classes": ["clear", "nodule"],
        "figures": {},
        "keyslice": "0.1.0",
        "stages": dict.fromkeys(("prepare", "train", "evaluate", "compare"), "0"),
    }
    ledger.append(workspace, events.MODEL_REGISTERED, "scans/3", told)
    return workspace, params


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[Item], None]:
    """`found(item)`: what verification finds."""

    def find(item: Item) -> None:
        monkeypatch.setattr(verification, "verify", lambda *_: [item])
        monkeypatch.setattr("keyslice.versioning.objects.cache", lambda _: None)

    return find


def _run(
    place: tuple[Workspace, Params],
    text: str = "scans",
    *,
    output: Path | None = None,
    verify: bool = False,
    as_json: bool = False,
) -> None:
    auditing.run(*place, text, output=output, verify=verify, as_json=as_json)


def test_page_and_json_go_to_state_and_it_says_where(
    place: tuple[Workspace, Params], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(place)
    page = place[0].state / "audits" / "scans-3.html"
    assert "scans" in page.read_text(encoding="utf-8")
    told = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["identity"]["version"] == 3
    assert told["verification"] is None
    printed = capsys.readouterr().out
    assert str(page) in printed.replace("\n", "")
    assert "not verified" in printed


def test_verification_runs_and_its_faults_are_told(
    place: tuple[Workspace, Params],
    found: Callable[[Item], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found(Item("package", "weights", "altered"))
    page = tmp_path / "elsewhere" / "page.html"
    _run(place, "scans/3", output=page, verify=True)
    assert "faults found" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".json").is_file()
    assert "not everything is as the ledger says" in capsys.readouterr().out


def test_as_json_it_prints_what_the_page_says(
    place: tuple[Workspace, Params], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(place, as_json=True)
    page = place[0].state / "audits" / "scans-3.json"
    assert json.loads(capsys.readouterr().out) == json.loads(page.read_text(encoding="utf-8"))


def test_another_ending_is_refused_before_the_json_would_take_its_place(
    place: tuple[Workspace, Params], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"ends in \.html"):
        _run(place, output=tmp_path / "audit.json")
    assert not (tmp_path / "audit.json").exists()

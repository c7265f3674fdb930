"""`keyslice withdraw` as a person meets it: nothing is erased unasked, and nobody is named."""

import csv
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from keyslice.config import Workspace, load
from keyslice.console import withdrawing
from keyslice.console.output import err, out
from keyslice.errors import UserError
from keyslice.exams import barred, manifest
from keyslice.exams.barred import Barred
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from keyslice.ingest import ingest_dataset
from keyslice.provenance import events, ledger, patients
from tests.console.withdrawal import OPTIONS

pytestmark = pytest.mark.forked_dvc

WHO = "Meier-7"
PARAMS = {
    "datasets": {
        "ward": {
            "source": "folder",
            "identifiers": "public",
            "classes": ["no", "yes"],
            "settle": 0,
            "issuer": "clinic",
        },
        "spots": {"source": "phantom", "kind": "volume", "classes": ["healthy", "lesion"]},
        "vessel": {
            "source": "medmnist",
            "flag": "vesselmnist3d",
            "classes": ["vessel", "aneurysm"],
        },
    },
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    **{s: {} for s in ("prepare", "backbone", "model", "train", "evaluate")},
    "compare": {"references": ["full"]},
}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("withdrawing") / "workspace"
    inbox = Workspace(root).inbox("ward")
    inbox.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    with (inbox / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "patient_id", "label"])
        for number in range(8):
            frames = np.random.default_rng(number).integers(0, 255, (3, 8, 8), np.uint8)
            np.savez(inbox / f"scan{number}.npz", frames=frames)
            rows.writerow([f"scan{number}.npz", f"Meier-{number}", ("no", "yes")[number % 2]])
    ingest_dataset(Workspace(root), load(root / "params.yaml"), "ward")
    return root


@pytest.fixture
def workspace(ingested: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(ingested, tmp_path / "workspace")))


def withdraw(workspace: Workspace, **options: Any) -> str:
    """What it says, on one line."""
    params, printed = load(workspace.params), io.StringIO()
    with redirect_stdout(printed), out.capture() as said, err.capture() as also:
        withdrawing.run(workspace, params, **OPTIONS | options)
    return " ".join((printed.getvalue() + said.get() + also.get()).split())


def actions(workspace: Workspace) -> list[str]:
    found = [event.action for event in ledger.read(workspace)]
    return [action for action in found if action.startswith("withdrawal")]


def test_a_dry_run_and_a_script_without_yes_change_nothing(workspace: Workspace) -> None:
    said = withdraw(workspace, patient=WHO, dry_run=True)
    assert "ward 1 exam in 1 dataset version" in said
    assert "exams 1, manifests 1" in said
    assert "spots" not in said
    with pytest.raises(UserError, match="--yes"):
        withdraw(workspace, patient=WHO, yes=False)
    assert actions(workspace) == []
    assert not barred.path(workspace, "ward").exists()


def test_a_withdrawal_says_what_is_left_to_do_and_asked_again_that_it_is_done(
    workspace: Workspace,
) -> None:
    said = withdraw(workspace, patient=WHO)
    assert "1 exam withdrawn, now version" in said
    assert "scan7.npz (line 9)" in said
    assert "backups" in said
    assert len(manifest.read(workspace.manifest("ward"))) == 7
    assert actions(workspace) == [events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED]
    again = json.loads(withdraw(workspace, patient=WHO, as_json=True))
    assert again["originals"] == {"ward": [{"line": 9, "file": "scan7.npz"}]}
    assert len(actions(workspace)) == 2
    told = ledger.path(workspace).read_text()
    assert not any(word in told for word in ("Meier", "scan7"))
    assert pseudonym(PUBLISHED_KEY, "clinic", WHO) not in told


def test_who_has_withdrawn_from_another_dataset_is_not_told_to_be_unknown(
    workspace: Workspace,
) -> None:
    who = patients.person(workspace, load(workspace.params), patient="P7").patients
    barred.add(workspace, "spots", Barred(frozenset([who["spots"]])))
    assert "has withdrawn already" in withdraw(workspace, patient="P7")
    with pytest.raises(UserError, match="ever held an exam"):
        withdraw(workspace, patient="P8")


def test_a_pseudonym_serves_as_well_and_json_is_for_scripts(workspace: Workspace) -> None:
    known_as = pseudonym(PUBLISHED_KEY, "clinic", WHO)
    told = json.loads(withdraw(workspace, known_as=known_as, as_json=True, dry_run=True))
    [ward] = [one for one in told["datasets"] if one["dataset"] == "ward"]
    assert (ward["exams"], list(ward["versions"].values())) == (1, [1])
    assert told["objects"] == {"exam": 1, "manifest": 1}
    assert told["dry_run"]
    assert known_as not in json.dumps(told)


def test_a_patient_nobody_knows_is_an_error_unless_they_are_to_be_barred(
    workspace: Workspace,
) -> None:
    with pytest.raises(UserError, match="--bar-unknown"):
        withdraw(workspace, patient="Nobody")
    with pytest.raises(UserError, match="--issuer"):
        withdraw(workspace, patient=WHO, issuer="another clinic")
    assert actions(workspace) == []
    assert "ward: barred" in withdraw(workspace, patient="Nobody", bar_unknown=True)
    who = pseudonym(PUBLISHED_KEY, "clinic", "Nobody")
    assert barred.read(workspace, "ward").patients == {who}
    assert not barred.path(workspace, "spots").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patient": WHO, "reason": f"{WHO.lower()} called"}, "names the patient"),
        ({"patient": WHO, "reason": " "}, "empty"),
        ({}, "--patient"),
        ({"patient": WHO, "known_as": "a" * 32}, "--pseudonym"),
        ({"known_as": WHO}, "32 hex digits"),
        ({"patient": WHO, "dataset": "wart"}, "'ward'"),
        ({"patient": WHO, "dataset": "vessel"}, "no dataset here knows"),
    ],
)
def test_a_mistake_is_told_before_anything_changes(
    workspace: Workspace, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        withdraw(workspace, **options)
    assert actions(workspace) == []

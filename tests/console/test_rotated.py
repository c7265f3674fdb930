"""After a rotation a real id still finds the patient, and who withdraws is out, under any key."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from keyslice.config import Workspace, load
from keyslice.console import lineage, withdrawing
from keyslice.console.output import err, out
from keyslice.errors import UserError
from keyslice.exams import barred, manifest, manifest_columns
from keyslice.exams.pseudonym import FORMER_VARIABLE, KEY_VARIABLE, mark, pseudonym
from keyslice.ingest import ingest_dataset
from keyslice.provenance import patients
from tests.console.withdrawal import OPTIONS

pytestmark = pytest.mark.forked_dvc

OLD, YOUNG = "Meier-7", "Roe-70"
"""Who came under key a, and who came under its follower b; both are in both datasets."""
KEYS = {name: (name * 32).encode() for name in "abc"}
DATASET = {
    "source": "folder",
    "classes": ["no", "yes"],
    "settle": 0,
    "split": {"train": 0.34, "validation": 0.33, "test": 0.33},
}
PARAMS = {
    "datasets": {"ward": DATASET, "later": DATASET},
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    **{s: {} for s in ("prepare", "backbone", "model", "train", "evaluate")},
    "compare": {"references": ["full"]},
}


def use(home: Path, monkeypatch: pytest.MonkeyPatch, now: str, *former: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(home / now))
    monkeypatch.setenv(FORMER_VARIABLE, os.pathsep.join(str(home / name) for name in former))


def deliver(workspace: Workspace, name: str, some: list[str]) -> None:
    inbox = workspace.inbox(name)
    inbox.mkdir(parents=True, exist_ok=True)
    table = inbox / "labels.csv"
    with table.open("a", newline="") as file:
        rows = csv.writer(file)
        if not table.stat().st_size:
            rows.writerow(["file", "patient_id", "label"])
        for patient in some:
            seed = [ord(letter) for letter in name + patient]
            frames = np.random.default_rng(seed).integers(0, 255, (3, 8, 8), np.uint8)
            np.savez(inbox / f"{patient}.npz", frames=frames)
            rows.writerow([f"{patient}.npz", patient, ("no", "yes")[int(patient[-1]) % 2]])


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a workspace, rotated from key a to key b, and the keys."""
    home = tmp_path_factory.mktemp("rotated")
    workspace = Workspace(home / "workspace")
    workspace.root.mkdir()
    for name, key in KEYS.items():
        (home / name).write_bytes(key)
        (home / name).chmod(0o600)
    workspace.params.write_text(yaml.safe_dump(PARAMS))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=workspace.root, check=True)
    params = load(workspace.params)
    with pytest.MonkeyPatch.context() as patched:
        use(home, patched, "a")
        deliver(workspace, "ward", [f"Meier-{number}" for number in range(12)])
        ingest_dataset(workspace, params, "ward")
        use(home, patched, "b", "a")
        deliver(workspace, "ward", [YOUNG])
        deliver(workspace, "later", [OLD, YOUNG, *(f"Doe-{number}" for number in range(12))])
        for name in ("ward", "later"):
            ingest_dataset(workspace, params, name)
        yield home


@pytest.fixture
def home(rotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = Path(shutil.copytree(rotated, tmp_path / "home", symlinks=True))
    use(home, monkeypatch, "b", "a")
    return home


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(home / "workspace")


def withdraw(workspace: Workspace, **options: Any) -> dict[str, Any]:
    printed = io.StringIO()
    with redirect_stdout(printed), out.capture(), err.capture():
        withdrawing.run(workspace, load(workspace.params), **OPTIONS | {"as_json": True} | options)
    return json.loads(printed.getvalue())


def trace(workspace: Workspace, patient: str) -> list[dict[str, Any]]:
    printed = io.StringIO()
    none = dict.fromkeys(("against", "issuer", "pseudonym"))
    with redirect_stdout(printed):
        lineage.run(workspace, None, None, patient=patient, list_exams=False, as_json=True, **none)
    return json.loads(printed.getvalue())["datasets"]


def everyone(workspace: Workspace, name: str) -> set[str]:
    return set(manifest.read(workspace.manifest(name))["patient"])


def test_a_real_id_finds_the_patient_under_whichever_key(workspace: Workspace) -> None:
    for patient, keys in ((OLD, {"ward": "a", "later": "b"}), (YOUNG, {"ward": "b", "later": "b"})):
        theirs = {name: pseudonym(KEYS[key], "", patient) for name, key in keys.items()}
        params = load(workspace.params)
        assert patients.person(workspace, params, patient=patient).patients == theirs
        assert {one["dataset"]: one["id"] for one in trace(workspace, patient)} == theirs


def test_who_withdraws_is_erased_from_all_and_stays_out_after_the_next_rotation(
    home: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {pseudonym(key, "", OLD) for key in KEYS.values()}
    told = withdraw(workspace, patient=OLD)
    assert {part["dataset"]: part["exams"] for part in told["datasets"]} == {"ward": 1, "later": 1}
    assert {name: len(lines) for name, lines in told["originals"].items()} == {
        "ward": 1,
        "later": 1,
    }
    params = load(workspace.params)
    use(home, monkeypatch, "c", "b", "a")
    for name in ("ward", "later"):
        assert ingest_dataset(workspace, params, name).report.shut == (f"{OLD}.npz",)
        assert not everyone(workspace, name) & theirs
    assert withdraw(workspace, patient=OLD)["datasets"] == []  # done already


def test_whom_nobody_knows_is_barred_under_a_key_that_is_needed_from_then_on(
    home: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(home, monkeypatch, "c", "b", "a")
    withdraw(workspace, patient="Nobody-1", bar_unknown=True)
    ban = barred.read(workspace, "ward")
    assert ban.patients == {pseudonym(KEYS["c"], "", "Nobody-1")}
    assert ban.keys == {mark(KEYS["c"])}
    deliver(workspace, "ward", ["Nobody-1"])
    use(home, monkeypatch, "b", "a")
    with pytest.raises(UserError, match="the key is not the one"):
        ingest_dataset(workspace, load(workspace.params), "ward")
    use(home, monkeypatch, "b", "c", "a")
    report = ingest_dataset(workspace, load(workspace.params), "ward").report
    assert report.shut == ("Nobody-1.npz",)


@pytest.mark.parametrize("then", [("b",), ("c", "b")])
def test_a_real_id_is_not_looked_for_while_a_key_is_missing(
    home: Path, workspace: Workspace, then: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(home, monkeypatch, *then)
    for ask in (trace, lambda where, who: withdraw(where, patient=who)):
        with pytest.raises(UserError, match=r"the key is not the one .* of ward"):
            ask(workspace, OLD)


def test_who_has_two_pseudonyms_in_one_dataset_is_erased_under_both(
    home: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a dataset was once started anew under another key, beside its kept manifests."""
    [kept, *_] = sorted(workspace.manifests("ward").glob("*.parquet"))
    table = manifest.read(kept)
    names = [pseudonym(KEYS[key], "", OLD) for key in ("a", "c")]
    theirs = table["patient"] == names[0]
    table.loc[theirs, "patient"] = names[1]
    table.loc[theirs, "exam_id"] = "f" * 32  # an exam that has left since
    early = workspace.kept_manifest("ward", "0" * 32 + ".dir")
    marked = manifest_columns.with_marks(manifest_columns.read_identity(kept), [mark(KEYS["c"])])
    manifest.write(table, early, marked)
    assert names[1] in manifest_columns.read_patients(early)

    use(home, monkeypatch, "b", "a", "c")
    found = [one["id"] for one in trace(workspace, OLD) if one["dataset"] == "ward"]
    assert sorted(found) == sorted(names)
    withdraw(workspace, patient=OLD, dataset="ward")
    for path in workspace.manifests("ward").glob("*.parquet"):
        assert not {*manifest_columns.read_patients(path)} & {*names}
    ban = barred.read(workspace, "ward")
    assert ban.patients == {*names}
    assert "f" * 32 in ban.exams

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from keyslice.cli import main
from keyslice.config import Workspace
from keyslice.console.quarantining import MEANING, visible
from keyslice.errors import UserError
from keyslice.exams import manifest, quarantine
from keyslice.exams.quarantine import Refusal

pytestmark = pytest.mark.forked_dvc

TEMPLATE = Path(__file__).parents[1] / "tiny_workspace"
WARD = {
    "source": "folder",
    "classes": ["no", "yes"],
    "identifiers": "public",
    "settle": 0,
    "split": {"train": 0.34, "validation": 0.33, "test": 0.33},
}


def ask(*words: str) -> Result:
    return CliRunner().invoke(main, ["quarantine", *words], env={"COLUMNS": "80"})


def shown(*words: str) -> str:
    """What a command that succeeds prints, with single spaces."""
    told = ask(*words)
    assert told.exit_code == 0, told.output
    return " ".join(told.stdout.split())


@pytest.fixture
def workspace(tmp_path, monkeypatch, folder_params) -> Workspace:
    folder_params("ward")
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def refuse(workspace: Workspace, *refusals: Refusal) -> None:
    quarantine.update(workspace.quarantine("ward"), refusals, {r.file for r in refusals})


def test_an_empty_list_is_told(workspace):
    assert shown("ward") == "nothing of ward is in quarantine"


def test_files_are_listed_by_kind_with_reason_date_and_what_to_do(workspace):
    kinds = [*MEANING, "unlisted"]
    refuse(workspace, *(Refusal(f"{k}.nii", f"why {k}", k, "2024-01-02", "e" * 32) for k in kinds))
    told = shown("ward")
    for kind in kinds:
        assert f"{kind}.nii {kind}, since 2024-01-02 why {kind}" in told
        assert MEANING.get(kind, "").format(name="ward") in told


def test_names_and_reasons_of_any_characters_are_shown_and_not_obeyed(workspace):
    names = ("scan[left].nii", "a[/b].nii", ":heart:.nii", "bell\x1b[2J\n.nii", "\u202eiin.a")
    refuse(workspace, *(Refusal(name, "why [not]", "table", "2024-01-02") for name in names))
    told = ask("ward").stdout
    for name in (*names[:3], r"bell\x1b[2J\n.nii", r"\u202eiin.a"):
        assert f"{name}  table, since" in told
    assert told.count("why [not]") == len(names)
    assert not {"\x1b", "\u202e"} & {*told}


def test_reasons_are_wrapped_at_80_columns(workspace):
    refuse(workspace, Refusal("a.nii", "word " * 60, "unreadable", "2024-01-02"))
    assert max(map(len, ask("ward").stdout.splitlines())) <= 80


def test_json_holds_the_list(workspace):
    refusal = Refusal("a.nii", "why", "table", "2024-01-02")
    refuse(workspace, refusal)
    told = json.loads(ask("ward", "--json").stdout)
    assert told == {"dataset": "ward", "quarantined": [vars(refusal)]}


def test_an_unknown_dataset_is_a_mistake(workspace):
    told = ask("wrad")
    assert told.exit_code == 2
    assert "did you mean 'ward'" in told.stderr


def test_what_is_plain_text_is_visible_as_it_is():
    assert visible("Ä scan 1.nii.gz") == "Ä scan 1.nii.gz"


A, B, C = "a" * 32, "b" * 32, "c" * 32
DISPUTED = [
    Refusal("a1.nii", "why", "two_patients", "2024-01-02", A),
    Refusal("a2.nii", "why", "two_patients", "2024-01-02", A),
    Refusal("b.nii", "why", "two_labels", "2024-01-02", B),
    Refusal("c.nii", "why", "unreadable", "2024-01-02"),
    Refusal("d.nii", "why", "unreadable", "2024-01-02"),
]


@pytest.mark.parametrize("names", [["a1.nii"], ["a1.nii", "a2.nii"]])
def test_all_lines_of_a_decided_exam_leave_the_list_and_no_others(workspace, names):
    refuse(workspace, *DISPUTED)
    quarantine.decided(workspace.quarantine("ward"), names)
    assert quarantine.read(workspace.quarantine("ward")) == DISPUTED[2:]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a1.nii", "b1.nii"], "'b1.nii' is not in the quarantine list.*did you mean 'b.nii'"),
        (["a1.nii", "c.nii"], "'c.nii' is in quarantine as unreadable"),
    ],
)
def test_a_file_that_is_in_no_conflict_is_refused_and_nothing_is_removed(workspace, names, told):
    refuse(workspace, *DISPUTED)
    with pytest.raises(UserError, match=told):
        quarantine.decided(workspace.quarantine("ward"), names)
    assert quarantine.read(workspace.quarantine("ward")) == DISPUTED


@pytest.fixture
def ward(tmp_path, monkeypatch) -> Workspace:
    """A git and DVC workspace with twelve exams of twelve patients, ingested."""
    root = tmp_path / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["datasets"] = {"ward": WARD}
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    monkeypatch.chdir(root)
    workspace = Workspace(root)
    workspace.inbox("ward").mkdir(parents=True)
    for number in range(12):
        write_exam(workspace, f"{number}.nii", number)
    write_table(workspace, {f"{n}.nii": f"{n:03}" for n in range(12)})
    assert CliRunner().invoke(main, ["ingest", "ward"]).exit_code == 0
    return workspace


def write_exam(workspace: Workspace, name: str, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(0, 200, (6, 7, 5)).astype(np.uint8)
    nib.save(
        nib.Nifti1Image(samples, np.diag([1.0, 1.0, 4.0, 1.0])), workspace.inbox("ward") / name
    )


def write_table(workspace: Workspace, patients: dict[str, str]) -> None:
    with (workspace.inbox("ward") / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "patient_id", "label"))
        for name, patient in patients.items():
            table.writerow((name, patient, "yes" if int(patient) % 2 else "no"))


def exams(workspace: Workspace) -> int:
    return len(manifest.read(workspace.manifest("ward")))


def test_a_conflict_settled_in_the_table_and_decided_lets_the_exam_in(ward):
    patients = {f"{n}.nii": f"{n:03}" for n in range(12)}
    write_exam(ward, "copy.nii", 1)
    write_table(ward, patients | {"copy.nii": "050"})
    CliRunner().invoke(main, ["ingest", "ward"])
    assert exams(ward) == 11
    # The wrong one is taken out, file and line; that alone does not settle it.
    (ward.inbox("ward") / "copy.nii").unlink()
    write_table(ward, patients)
    CliRunner().invoke(main, ["ingest", "ward"])
    assert exams(ward) == 11
    told = shown("ward", "--decided", "copy.nii")
    assert "12 exams, version" in told
    assert shown("ward") == "nothing of ward is in quarantine"


def test_a_retry_reads_again_what_could_not_be_read(ward):
    write_exam(ward, "late.nii", 50)
    write_table(ward, {f"{n}.nii": f"{n:03}" for n in range(12)} | {"late.nii": "050"})
    path = ward.inbox("ward") / "late.nii"
    whole, time = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(bytes(len(whole)))
    os.utime(path, ns=(time, time))
    refused = CliRunner().invoke(main, ["ingest", "ward"])
    assert "quarantined late.nii" in refused.stderr
    # As after an outage of the store that it lies on: to look at, it is the same file.
    path.write_bytes(whole)
    os.utime(path, ns=(time, time))
    assert "quarantined late.nii" in CliRunner().invoke(main, ["ingest", "ward"]).stderr
    told = ask("ward", "--retry")
    assert told.stdout.startswith(
        "ward  14 files found = 13 accepted (1 new) + 1 skipped\n13 exams"
    )


def test_the_json_of_a_retry_is_that_of_an_ingestion(ward):
    (ward.inbox("ward") / "late.nii").write_bytes(b"no exam")
    write_table(ward, {f"{n}.nii": f"{n:03}" for n in range(12)} | {"late.nii": "050"})
    CliRunner().invoke(main, ["ingest", "ward"])
    report = json.loads(ask("ward", "--retry", "--json").stdout)["report"]
    assert [refusal["file"] for refusal in report["refused"]] == ["late.nii"]


def test_an_unknown_file_is_a_mistake_and_nothing_is_ingested(ward):
    told = ask("ward", "--decided", "nosuch.nii")
    assert told.exit_code == 2
    assert "not in the quarantine list" in told.stderr

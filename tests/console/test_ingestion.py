from dataclasses import fields
from pathlib import Path
from typing import Any

from keyslice.config import Workspace
from keyslice.console import ingestion
from keyslice.exams.ingestion import IngestReport
from keyslice.exams.quarantine import Refusal
from keyslice.ingest import Ingested


def report(**counts: Any) -> IngestReport:
    """With these counts, all others zero."""
    names = [field.name for field in fields(IngestReport) if field.type is int]
    about = {"dataset": "ward", "batch": None, "manifest_sha256": "", "refused": (), "waits": ()}
    values: dict[str, Any] = {**dict.fromkeys(names, 0), **about, **counts}
    return IngestReport(**values)


def test_names_in_brackets_are_shown_as_they_are(tmp_path: Path, capsys) -> None:
    names = ("scan[left].nii.gz", "a[/b].nii", ":heart:.nii")
    refused = tuple(Refusal(name, "why [not]", "unreadable", "2024-01-02") for name in names)
    ingestion.show_refusals(Workspace(tmp_path), report(found=3, quarantined=3, refused=refused))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *[f"quarantined {name}: why [not]" for name in names],
        "the quarantine list is data/quarantine/ward.csv; see keyslice quarantine ward",
    ]


def test_changed_labels_and_exams_that_left_are_told(tmp_path: Path, capsys, monkeypatch) -> None:
    counts = report(found=240, present=240, relabelled=50, removed=2)
    done = Ingested(counts, "1.dir", "0.dir")
    monkeypatch.setattr(ingestion, "ingest_dataset", lambda *_, **__: done)
    ingestion.run(Workspace(tmp_path), None, "ward", as_json=False)  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "240 files found = 240 accepted\nexams with another label than before: 50\n" in shown
    assert "\nexams no longer in the dataset: 2\n" in shown


def test_the_account_adds_up_in_words() -> None:
    told = ingestion.account(
        report(
            found=21,
            accepted=2,
            present=3,
            waiting=1,
            left_out=3,
            duplicates=4,
            quarantined=5,
            arriving=1,
            skipped=2,
        )
    )
    assert told == (
        "21 files found = 5 accepted (2 new) + 4 waiting + 4 duplicate + 5 quarantined + "
        "1 still arriving + 2 skipped"
    )


def test_exams_that_wait_are_told_with_what_for(capsys) -> None:
    waits = tuple((f"{n}[x].nii", "its label is empty") for n in range(12))
    ingestion.show_waits(report(found=12, waiting=12, waits=waits))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "waiting 0[x].nii: its label is empty"
    assert lines[-1] == "… and 2 more wait"


def test_what_did_not_happen_is_not_told() -> None:
    assert ingestion.changes(report(found=3, accepted=3)) == []

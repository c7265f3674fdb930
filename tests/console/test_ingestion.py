from pathlib import Path

from keyslice.config import Workspace
from keyslice.console import ingestion
from keyslice.exams.ingestion import IngestReport
from keyslice.exams.quarantine import Refusal


def test_names_in_brackets_are_shown_as_they_are(tmp_path: Path, capsys) -> None:
    names = ("scan[left].nii.gz", "a[/b].nii", ":heart:.nii")
    refused = tuple(Refusal(name, "why [not]", "unreadable", "2024-01-02") for name in names)
    counts = dict.fromkeys(
        ("accepted", "present", "duplicates", "across_splits", "left_out", "relabelled", "removed"),
        0,
    )
    report = IngestReport(
        dataset="ward",
        found=3,
        quarantined=3,
        batch=None,
        manifest_sha256="",
        refused=refused,
        **counts,
    )
    ingestion.show_refusals(Workspace(tmp_path), report)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"quarantined {name}: why [not]" for name in names]

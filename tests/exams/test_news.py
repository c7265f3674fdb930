"""What lies in an inbox that no ingestion has taken."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from keyslice.cli import main
from keyslice.config import FolderDataset, Workspace
from keyslice.exams.ingestion import ingest
from keyslice.exams.news import news

DATASET = FolderDataset(
    source="folder",
    classes=("a", "b"),
    identifiers="public",
    split={"train": 0.4, "validation": 0.3, "test": 0.3},  # pyright: ignore[reportArgumentType]
    settle=0,
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.inbox("scans").mkdir(parents=True)
    (workspace.inbox("scans") / "labels.csv").write_text("file,patient_id,label\n")
    return workspace


def _add(workspace: Workspace, numbers: range, *, labelled: bool = True) -> None:
    inbox = workspace.inbox("scans")
    with (inbox / "labels.csv").open("a") as table:
        for number in numbers:
            frames = np.full((3, 8, 8), number, np.uint8)
            np.savez(inbox / f"{number}.npz", frames=frames)
            if labelled:
                table.write(f"{number}.npz,{number},{'ab'[number % 2]}\n")


def test_what_was_ingested_is_no_news_and_what_came_after_is(workspace: Workspace) -> None:
    _add(workspace, range(8))
    assert len(news(workspace, "scans", DATASET).exams) == 8
    ingest(workspace, "scans", DATASET)
    assert news(workspace, "scans", DATASET).exams == ()
    _add(workspace, range(8, 10))
    assert len(news(workspace, "scans", DATASET).exams) == 2


def test_what_has_no_label_or_is_still_written_is_counted_apart(workspace: Workspace) -> None:
    _add(workspace, range(2), labelled=False)
    (workspace.inbox("scans") / "3.npz.part").touch()
    found = news(workspace, "scans", DATASET)
    assert (found.exams, found.waiting, found.arriving) == ((), 2, 1)


def test_a_damaged_file_is_no_news_for_ever(workspace: Workspace) -> None:
    _add(workspace, range(8))
    (workspace.inbox("scans") / "7.npz").write_bytes(b"not an archive")
    ingest(workspace, "scans", DATASET)
    assert news(workspace, "scans", DATASET).exams == ()
    (workspace.inbox("scans") / "7.npz").write_bytes(b"mended, they say")
    assert len(news(workspace, "scans", DATASET).exams) == 1


@pytest.fixture
def command(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, folder_params) -> Workspace:
    folder_params("scans")
    params = workspace.root / "params.yaml"
    ours = params.read_text().replace("[healthy, lesion]", "[a, b], identifiers: public")
    params.write_text(ours)
    monkeypatch.chdir(workspace.root)
    return workspace


def test_the_command_tells_people_and_programs(command: Workspace) -> None:
    _add(command, range(3))
    told = CliRunner().invoke(main, ["inbox"], catch_exceptions=False)
    assert told.stdout == "scans: 3 new exams\n"
    found = json.loads(CliRunner().invoke(main, ["inbox", "scans", "--json"]).stdout)
    assert found["scans"] | {"new": len(found["scans"]["new"])} == {
        "new": 3,
        "arriving": 0,
        "waiting": 0,
    }

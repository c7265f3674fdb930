"""How the task of an ingestion ends, and what Prefect is told."""

import os
from pathlib import Path

import pytest
from prefect.states import Failed

from flows import tasks
from keyslice import versioning
from keyslice.errors import RunError, UserError


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_params):
    """`fails(error)`: the task's error where the ingestion ends with `error`."""
    folder_params("tiny")

    def run(error: Exception) -> Exception:
        def broken(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("keyslice.ingest.ingest_dataset", broken)
        with pytest.raises(type(error) if isinstance(error, UserError) else RunError) as caught:
            tasks.ingest.fn(str(tmp_path), "tiny")
        return caught.value

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error", "/inbox/Doe_John.nii"), "Input/output error; "),
        (KeyError("Doe_John"), "KeyError; "),
    ],
)
def test_what_nobody_foresaw_is_told_to_prefect_without_names(fails, error, said):
    told = fails(error)
    assert str(told).startswith(said)
    assert "Doe" not in str(told)
    assert told.__suppress_context__


@pytest.mark.timeout(60, method="thread")  # SIGALRM, as the task's own limit: it would have none
def test_an_ingestion_whose_source_hangs_is_ended_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_params
) -> None:
    folder_params("tiny")
    with (tmp_path / "params.yaml").open("a") as file:
        file.write(f"retrain: {{stage_hours: {0.5 / 3600}}}\n")
    os.mkfifo(tmp_path / "share")  # nobody ever writes to it
    calls = []

    def hangs(*_: object, **__: object) -> None:
        calls.append(1)
        try:
            (tmp_path / "share").read_bytes()
        except Exception:  # a reader refuses what it cannot read, and goes on
            calls.append(2)

    monkeypatch.setattr("keyslice.ingest.ingest_dataset", hangs)
    with pytest.raises(versioning.TimeLimitError, match="does its source answer") as caught:
        tasks.ingest.fn(str(tmp_path), "tiny")
    assert calls == [1]
    assert not tasks.worth_retrying(None, None, Failed(data=caught.value))


def test_a_mistake_is_told_to_prefect_as_it_is(fails):
    assert str(fails(UserError("no folder"))) == "no folder"

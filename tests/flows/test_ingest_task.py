from pathlib import Path

import pytest

from flows import tasks
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


def test_a_mistake_is_told_to_prefect_as_it_is(fails):
    assert str(fails(UserError("no folder"))) == "no folder"

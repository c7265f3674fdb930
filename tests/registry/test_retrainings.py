from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.registry.mirror import Mirror
from keyslice.registry.retrainings import last_retrainings

VARIANTS = ("full", "uniform", "das")


def test_the_last_retraining_of_a_dataset_is_told_with_its_end(workspace: Workspace) -> None:
    mirror = Mirror(workspace, "tiny")
    mirror.abandon(mirror.begin(), [])
    mirror.complete(last := mirror.begin(), VARIANTS, "c0ffee")
    found = last_retrainings(workspace, ["tiny", "never"])
    assert list(found) == ["tiny"]
    assert (found["tiny"].run_id, found["tiny"].state) == (last, "finished")
    assert found["tiny"].ended is not None
    assert found["tiny"].ended >= found["tiny"].begun


def test_one_that_has_not_ended_is_running(workspace: Workspace) -> None:
    Mirror(workspace, "tiny").begin()
    found = last_retrainings(workspace, ["tiny"])["tiny"]
    assert (found.state, found.ended) == ("running", None)


def test_an_empty_workspace_has_none_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert last_retrainings(Workspace(tmp_path), ["tiny"]) == {}
    assert list(tmp_path.iterdir()) == []

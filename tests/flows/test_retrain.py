"""What a failing Prefect is told by."""

import pytest

from flows import retrain


def test_a_prefect_that_does_not_start_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    told = str(retrain._prefect_failed(RuntimeError("Timed out")))
    assert told.startswith("Prefect: Timed out; PREFECT_API_URL is not set")
    assert "state/prefect; where that is damaged, or a newer Prefect wrote it, move" in told

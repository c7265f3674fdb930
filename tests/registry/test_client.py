import pytest

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.registry.client import connect


def test_a_server_that_does_not_answer_is_told_without_its_password(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match=r"http://127.0.0.1:1 .*MLFLOW_TRACKING_URI") as caught:
        connect(Workspace(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nonsense://me:secret@host", "postgresql://me:secret@host/db"])
def test_an_address_that_cannot_be_opened_is_a_mistake_in_its_variable(
    tmp_path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: .*host") as caught:
        connect(Workspace(tmp_path))
    assert "secret" not in str(caught.value)

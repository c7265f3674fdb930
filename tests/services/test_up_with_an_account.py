"""`keyslice up` where others have accounts on the machine: its real servers ask for a password."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from keyslice.config import Workspace, load
from keyslice.services.account import VARIABLE
from tests.services.installation import processes, start, wait
from tests.services.test_up import workspace  # noqa: F401 # pyright: ignore[reportUnusedImport]

USER, PASSWORD = "ann", "planted-secret-password"


@pytest.mark.timeout(300)
def test_both_servers_answer_those_who_know_the_password(
    workspace: Workspace,  # noqa: F811
    tmp_path: Path,
) -> None:
    account, log = tmp_path / "account", tmp_path / "up.log"
    account.write_text(f"{USER}:{PASSWORD}\n")
    account.chmod(0o600)
    service = load(workspace.params).service
    prefect = f"http://127.0.0.1:{service.prefect_port}/api/flow_runs/count"
    mlflow = f"http://127.0.0.1:{service.mlflow_port}"
    models = f"{mlflow}/api/2.0/mlflow/registered-models/search"
    assistant = f"{mlflow}/ajax-api/3.0/mlflow/assistant/config"

    def answer(ask: Callable[..., httpx.Response], page: str, **options: object) -> list[int]:
        """To a stranger, to one who guesses, and to one who knows."""
        known = (None, (USER, f"{PASSWORD}?"), (USER, PASSWORD))
        return [ask(page, auth=one, timeout=60, **options).status_code for one in known]

    up = start(workspace.root, log, **{VARIABLE: str(account)})
    try:
        wait(lambda: "serving scans" in log.read_text(), "does not serve", log, seconds=150)
        assert answer(httpx.post, prefect, json={}) == [401, 401, 200]
        assert answer(httpx.get, models) == [401, 401, 200]
        assert answer(httpx.get, assistant)[-1] == 404
        # A browser that knows it sends it along, whichever site's page asks.
        elsewhere = {"Origin": "https://elsewhere.example"}
        create, planted = models.replace("search", "create"), {"name": "planted"}
        assert answer(httpx.post, create, json=planted, headers=elsewhere)[-1] == 403
        commands = [word for one in processes(workspace.root) for word in one.cmdline()]
        assert not any(PASSWORD in word for word in commands)
    finally:
        up.kill()
        up.wait()
        for left in processes(workspace.root):
            left.kill()
    told = [log, *(workspace.state / "logs").iterdir()]
    assert not any(PASSWORD in file.read_text() for file in told)

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import due as module
from flows import telling
from flows.due import due, in_words
from flows.environment import environment
from flows.retrain import run
from flows.tasks import RETRIES
from keyslice import versioning
from keyslice.config import Workspace, load
from keyslice.errors import UserError
from keyslice.stages.running import only_retraining

EIGHT = ("full", "random", "uniform", "nonempty", "dps", "adps", "das_paper", "das")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the modules below say, for the decision alone: up to date in every respect."""
    said = {"version": "1.dir", "source": "unchanged", "stale": [], "published": 1}
    said |= {"unpushed": [], "uncommitted": False, "unfinished": None, "gate": "an event"}
    monkeypatch.setattr(versioning, "unpushed", lambda *_: said["unpushed"])
    monkeypatch.setattr(versioning, "uncommitted", lambda *_: said["uncommitted"])
    monkeypatch.setattr(module.standing, "unfinished", lambda *_: said["unfinished"])
    monkeypatch.setattr(module.standing, "gate", lambda *_: said["gate"])
    monkeypatch.setattr(versioning, "version", lambda *_: said["version"])
    monkeypatch.setattr(versioning, "stale", lambda *_: said["stale"])
    monkeypatch.setattr(module, "source_state", lambda *_: said["source"])
    monkeypatch.setattr(module, "published", lambda *_: said["published"])
    return said


def reasons(workspace: Workspace) -> list[str]:
    return due(workspace, load(workspace.params), ["tiny"])


@pytest.mark.parametrize(
    ("answer", "value", "reason"),
    [
        ("version", None, "tiny: not ingested yet"),
        ("source", "changed", "tiny: its source or settings of it have changed"),
        ("source", "unseen", "tiny: its source cannot be seen; is a drive not mounted?"),
        ("stale", ["train@tiny-das"], "tiny: out of date: train das"),
        ("published", None, "tiny: its results are not registered"),
        ("gate", None, "tiny: the gate of version 1 has not come to its end"),
        ("unfinished", "an event", "tiny: the gate of version 1 has not come to its end"),
        ("unpushed", ["far"], "tiny: not pushed to far"),
        ("uncommitted", True, "tiny: not committed"),
    ],
)
def test_each_reason_is_said(
    workspace: Workspace, answers: dict, answer: str, value: object, reason: str
) -> None:
    answers[answer] = value
    with workspace.params.open("a") as settings:
        settings.write("versioning: {commit: true}\n")
    assert reasons(workspace) == [reason]


def test_messages_that_a_kill_left_untold_are_a_reason(workspace: Workspace, answers: dict) -> None:
    telling.begin(workspace, "tiny", None, 1)
    assert reasons(workspace) == ["tiny: not everybody has been told of version 1"]
    telling.end(workspace, "tiny")
    assert reasons(workspace) == []


def test_what_is_not_to_be_committed_is_no_reason(workspace: Workspace, answers: dict) -> None:
    answers["uncommitted"] = True
    assert reasons(workspace) == []


ALL = versioning.stage_names("phantom_volumes", EIGHT)


@pytest.mark.parametrize(
    ("stale", "words"),
    [
        (ALL, "prepare, train and evaluate 8 of 8, compare"),
        (ALL[1:9], "train 8 of 8"),
        (["evaluate@phantom_volumes-das"], "evaluate das"),
        (
            ["train@phantom_volumes-dps", *ALL[9:]],
            "train dps, evaluate 8 of 8, compare",
        ),
        (
            ["train@phantom_volumes-dps", "train@phantom_volumes-das_paper"],
            "train dps and das_paper",
        ),
    ],
)
def test_stages_are_told_in_one_short_line(stale: list[str], words: str) -> None:
    assert in_words(stale, "phantom_volumes", EIGHT) == words
    assert len(f"phantom_volumes: out of date: {words}") <= 80


def test_nothing_new_is_no_reason(workspace: Workspace, answers: dict) -> None:
    assert reasons(workspace) == []


def test_a_stale_stage_of_another_dataset_is_no_reason(workspace: Workspace, answers: dict) -> None:
    answers["stale"] = ["train@other-das"]
    assert reasons(workspace) == []


def test_a_dataset_that_is_being_retrained_is_told_before_dvc_is_asked(
    workspace: Workspace, answers: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versioning, "stale", lambda *_: pytest.fail("DVC was asked"))
    retrain = only_retraining(workspace, ["tiny"], "keyslice retrain")
    with retrain, pytest.raises(UserError, match="tiny is in use by `keyslice retrain`, process"):
        reasons(workspace)


def test_an_unknown_dataset_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        due(workspace, load(workspace.params), ["tinny"])


def test_the_decision_imports_nothing_heavy() -> None:
    code = (
        "import sys, flows.due, flows.retrain\n"
        "print({'prefect', 'mlflow', 'torch', 'pandas', 'dvc'} & set(sys.modules))"
    )
    root = Path(module.__file__).parents[1]
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_a_dataset_that_is_being_registered_is_not_retrained(workspace: Workspace) -> None:
    register = only_retraining(workspace, ["tiny"], "keyslice register")
    with register, pytest.raises(UserError, match="tiny is in use by `keyslice register`"):
        run(workspace, ["tiny"])


def test_prefect_stays_in_the_workspace_and_phones_nobody(workspace: Workspace) -> None:
    values = environment(workspace)
    assert values["PREFECT_HOME"] == str(workspace.state / "prefect")
    assert values["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert values["DO_NOT_TRACK"] == "1"


def test_a_run_outlives_a_prefect_server_that_is_away_for_a_quarter_of_an_hour(
    workspace: Workspace,
) -> None:
    retries = int(environment(workspace)["PREFECT_CLIENT_MAX_RETRIES"])
    assert sum(2**number for number in range(1, retries + 1)) > 15 * 60


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("PREFECT_API_URL", "500"),
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "500"),
        ("PREFECT_HOME", ""),
    ],
)
def test_only_a_database_elsewhere_is_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, codes: str
) -> None:
    """One in the workspace is away with its disk."""
    for one in ("PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, "somewhere")
    assert environment(workspace)["PREFECT_CLIENT_RETRY_EXTRA_CODES"] == codes


def test_a_run_outlives_an_mlflow_that_is_away_for_a_dozen_minutes(workspace: Workspace) -> None:
    retries = int(environment(workspace)["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    once = sum(min(120, 2 * 2**number) for number in range(1, retries))  # the first is at once
    assert (1 + RETRIES["retries"]) * once >= 12 * 60


def test_a_prefect_server_that_cannot_be_reached_is_told_by_its_variable(
    workspace: Workspace,
) -> None:
    """In a process of its own: Prefect reads its settings when it is imported."""
    code = (
        "import sys; from pathlib import Path; from flows.retrain import run; "
        "from keyslice.config import Workspace; from keyslice.errors import RunError\n"
        "try: run(Workspace(Path(sys.argv[1])), ['tiny'])\n"
        "except RunError as error: print(error)"
    )
    url = "http://127.0.0.1:1/api"
    told = subprocess.run(
        [sys.executable, "-c", code, str(workspace.root)],
        env=os.environ | {"PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith("Prefect: Failed to reach API")
    assert f"PREFECT_API_URL names the Prefect server {url}" in told.stdout

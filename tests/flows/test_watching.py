"""What the serving process does about params.yaml, and about runs that are cut off each time."""

import asyncio
import errno
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows import attempts, watch, watching, webhook
from flows.attempts import Attempt
from flows.watching import Watching
from keyslice.config import Params, Workspace, load
from tests.servers.receiver import Receiver

DEPLOYED = {"tiny": uuid4()}


@pytest.fixture(autouse=True)
def _key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "secret" / "key"
    key.parent.mkdir()
    key.touch(0o600)
    key.write_bytes(bytes(32))
    monkeypatch.setenv("KEYSLICE_KEY_FILE", str(key))


class Served:
    """A watching whose server is not there."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.deployed: list[Params] = []
        self.answers = True
        text, nobody = workspace.params.read_bytes(), None
        self.watching = Watching(
            workspace,
            load(workspace.params),
            text,
            DEPLOYED,
            nobody,  # pyright: ignore[reportArgumentType]
            nobody,  # pyright: ignore[reportArgumentType]
            self.told.append,
        )
        monkeypatch.setattr(watching, "deploy", self.deploy)

    async def deploy(self, _: Any, __: Any, params: Params, ___: Any) -> dict[str, UUID]:
        if not self.answers:
            raise ConnectionError("away")
        self.deployed.append(params)
        return DEPLOYED

    def look(self) -> list[str]:
        """What one look at params.yaml tells."""
        self.told.clear()
        asyncio.run(self.watching._guarded("params.yaml", self.watching._follow))
        return list(self.told)


@pytest.fixture
def served(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(workspace, monkeypatch)


def retrain(workspace: Workspace, settings: str) -> None:
    with workspace.params.open("a") as params:
        params.write(f"retrain: {settings}\n")


def test_a_key_that_is_missing_is_told_before_an_exam_arrives(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Served(workspace, monkeypatch).told == []
    monkeypatch.delenv("KEYSLICE_KEY_FILE")
    [line] = Served(workspace, monkeypatch).told
    assert line.startswith("KEYSLICE_KEY_FILE is not set; ")
    assert line.endswith("no exams of tiny are taken in")


def test_settings_that_change_are_taken_up_once(workspace: Workspace, served: Served) -> None:
    assert served.look() == []
    retrain(workspace, "{schedule: {every_minutes: 5}}")
    [line] = served.look()
    assert re.fullmatch(r"params.yaml has changed; serving tiny \(next 20.* UTC\)", line)
    [params] = served.deployed
    schedule = params.retrain_settings("tiny").schedule
    assert schedule is not None
    assert schedule.every_minutes == 5
    assert served.watching._watches["tiny"]._settings == params.retrain_settings("tiny")
    assert served.look() == []


def test_settings_that_break_a_rule_are_told_once_and_not_taken_up(
    workspace: Workspace, served: Served
) -> None:
    retrain(workspace, "{schedule: {every_minutes: -5}}")
    [line] = served.look()
    assert "retrain" in line
    assert line.endswith("what a schedule starts fails")
    assert served.look() == served.deployed == []


def test_while_settings_break_a_rule_no_inbox_is_looked_at(
    workspace: Workspace, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would count its exams reads the same settings, and would tell the same again."""
    watch, looks = served.watching._watches["tiny"], []
    monkeypatch.setattr(watch, "look", lambda: looks.append("look"))
    text = workspace.params.read_text()
    retrain(workspace, "{schedule: {every_minutes: -5}}")
    served.look()
    asyncio.run(served.watching._look("tiny", watch))
    assert looks == []
    workspace.params.write_text(text)
    served.look()
    asyncio.run(served.watching._look("tiny", watch))
    assert looks == ["look"]


def test_settings_that_no_server_takes_are_offered_again(
    workspace: Workspace, served: Served
) -> None:
    served.answers = False
    retrain(workspace, "{watch_seconds: 5}")
    assert served.look() == ["params.yaml: away"]
    assert served.look() == []
    served.answers = True
    assert served.look() == ["params.yaml has changed; serving tiny"]


def test_settings_that_a_full_disk_keeps_from_being_taken_up_are_taken_up_later(
    workspace: Workspace, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served.watching._watches

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(watch.files, "write_text", full)
        retrain(workspace, "{schedule: {every_minutes: 5}}")
        assert served.look() == ["params.yaml: [Errno 28] No space left on device"]
        assert served.watching._watches is before
        assert served.watching._params.retrain_settings("tiny").schedule is None
    [line] = served.look()
    assert line.startswith("params.yaml has changed")
    assert served.watching._watches is not before


def test_who_is_told_of_a_run_given_up_does_not_overwrite_one_that_has_begun(
    workspace: Workspace, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"pid": 1, "started": "another boot"}
    attempts._write(workspace, "tiny", Attempt("schedule", datetime.now(UTC), gone, cut_off=2))

    def slow(*_: object) -> None:
        attempts.begin(workspace, "tiny", "schedule", "the next")

    monkeypatch.setattr(watching.notify, "send", slow)
    served.watching._give_up("tiny", "given up")
    last = attempts.last(workspace, "tiny")
    assert last is not None
    assert (last.run, last.outcome) == ("the next", "")


def test_a_run_that_is_cut_off_again_and_again_is_given_up_and_told_of_once(
    workspace: Workspace, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"pid": 1, "started": "another boot"}
    cut_off = Attempt("schedule", datetime.now(UTC), gone, cut_off=2)
    attempts._write(workspace, "tiny", cut_off)
    watch = served.watching._watches["tiny"]
    with Receiver() as receiver:
        monkeypatch.setenv(webhook.ADDRESS_VARIABLE, receiver.address)
        for _ in range(2):
            asyncio.run(served.watching._look("tiny", watch))
        [message] = [json.loads(one.body)["keyslice"] for one in receiver.received]
    assert (message["occasion"], message["dataset"]) == ("failure", "tiny")
    assert "cut off, 3 in a row" in message["sentence"]
    last = attempts.last(workspace, "tiny")
    assert last is not None
    assert last.outcome == "given up"

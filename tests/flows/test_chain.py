"""The flow as a whole, once, on stages that take no time; see conftest and tests/tiny_workspace."""

import errno
import json
import logging
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run
from prefect import Task, flow, get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock, MattermostWebhook
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Scheduled
from rich.console import Console

from flows import attempts, current, notify, overdue, tasks
from flows.chain import RetrainFailed, retrain, to_train
from flows.due import SOURCE_CHANGED
from flows.retrain import run
from keyslice import versioning
from keyslice.config import FolderDataset, Notify, Workspace, load
from keyslice.errors import UserError
from keyslice.exams.news import News
from keyslice.registry import tags
from keyslice.registry.mirror import Mirror
from keyslice.registry.models import models
from keyslice.stages.running import only_retraining
from keyslice.versioning import processes
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.forked_dvc

NAMES = ("full", "das")


def runs(workspace: Workspace) -> list[Run]:
    mirror = Mirror(workspace, "tiny")
    return list(mirror.client.search_runs([mirror.experiment]))


def quiet() -> Console:
    return Console(file=Path(os.devnull).open("w"))


@pytest.mark.usefixtures("prefect")
def test_a_failed_variant_stops_no_other_and_mending_it_completes_the_retraining(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE_FAILS", "full")
    with pytest.raises(UserError, match=r"tiny, full: train\.learning_rate"):
        run(workspace, ["tiny"], parallel=2, console=quiet())
    assert (workspace.results("tiny", "das") / "metrics.json").is_file()
    [parent] = [one for one in runs(workspace) if one.data.tags[tags.KIND] == "retraining"]
    assert parent.info.status == "FAILED"
    assert models(workspace) == []

    monkeypatch.delenv("STAGE_FAILS")
    [done] = run(workspace, ["tiny"], parallel=2, console=quiet())
    found = runs(workspace)
    training = [one for one in found if one.data.tags[tags.KIND] == "training"]
    assert len(training) == len(NAMES) * 2  # those of the one that had succeeded are linked
    assert versioning.stale(workspace, ["tiny"]) == []
    complete = next(one for one in found if one.info.run_id == done.run_id)
    commit = complete.data.tags[tags.COMMIT]
    ended = versioning.run(["git", "ls-tree", "--name-only", commit], cwd=workspace.root)
    assert "dvc.lock" in ended.lines
    [model] = models(workspace)
    assert (model.version, model.aliases) == (done.model_version, ("challenger",))

    [again] = run(workspace, ["tiny"], console=quiet())
    assert again == done
    assert len(runs(workspace)) == len(found)
    assert len(models(workspace)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("prefect", "ctrl_c")
def test_ctrl_c_and_what_asks_a_process_to_end_ends_the_stages_that_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The signal comes while both trainings run, one of which would never end."""
    monkeypatch.setenv("STAGE_HANGS", "full")
    monkeypatch.setattr(processes, "DVC", (sys.executable, "-m", "dvc"))  # one that can be ended
    begun = versioning.reproduce

    def interrupting(workspace: Workspace, stage: str, **options: Any) -> versioning.Outcome:
        if stage != "train@tiny-full":
            return begun(workspace, stage, **options)

        def hanging(line: str) -> None:
            if line == "hanging":
                os.kill(os.getpid(), number)

        return begun(workspace, stage, on_line=hanging)

    monkeypatch.setattr(versioning, "reproduce", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, ["tiny"], parallel=1, console=quiet())
    for pid in map(int, (workspace.state / "hanging").read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert not workspace.models("tiny", "das").exists()


@pytest.mark.usefixtures("prefect")
def test_prefects_blocks_are_told_within_a_flow_and_their_addresses_are_logged_nowhere(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv("KEYSLICE_WEBHOOK", raising=False)
    names = ("custom-webhook/ward", "mattermost-webhook/ward", "custom-webhook/none", "secret/ward")
    settings = Notify(blocks=names)
    happening = notify.Happening("approval", "Version 3 waits.", dataset="tiny")
    with Receiver() as receiver, Receiver() as broken:
        broken.answers = [(500, {})]
        token = "xSecretx" * 3  # of the length that apprise demands
        template = {"title": "{{subject}}", "text": "{{body}}"}
        for block in (
            CustomWebhookNotificationBlock(name="w", url=receiver.address, json_data=template),
            MattermostWebhook(hostname="127.0.0.1", port=broken.port, token=token),
            Secret(value="no one's"),
        ):
            block.save("ward")
        told = flow(lambda: notify.deliver(workspace, settings, happening), name="tell")()
        [received] = receiver.received
        assert len(broken.received) == 1
    assert json.loads(received.body) == {
        "title": "Keyslice: workspace · tiny · approval is needed",
        "text": "Version 3 waits.",
    }
    assert [one.target for one in told] == list(names)
    assert [one.fault.partition(";")[0].partition(",")[0] for one in told] == [
        "",
        "its service did not take the message",
        "Prefect has no such block",
        "it is no notification block",
    ]
    for word in ("xSecretx", "ySecrety", "/services"):
        assert word not in caplog.text


@pytest.mark.usefixtures("prefect")
def test_a_block_whose_service_does_not_answer_is_not_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYSLICE_WEBHOOK", raising=False)
    monkeypatch.setattr(notify, "BLOCK_SECONDS", 0.5)
    happening = notify.Happening("approval", "Version 3 waits.", dataset="tiny")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        CustomWebhookNotificationBlock(name="w", url=address, timeout=5).save("silent")
        blocks = Notify(blocks=("custom-webhook/silent",))
        told = flow(lambda: notify.deliver(workspace, blocks, happening), name="tell")()
    assert [one.fault for one in told] == ["its service has not answered within 0.5 s"]


def test_where_git_cannot_record_a_run_no_work_begins(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / ".git").rename(workspace.root / "elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.root.parent))
    monkeypatch.setattr(tasks, "ingest", lambda *_: pytest.fail("exams were ingested"))
    with pytest.raises(RetrainFailed, match="run in a git clone"):
        retrain.fn(str(workspace.root), ["tiny"])


def test_a_failure_is_told_also_where_mlflow_cannot_be(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(error: Exception) -> Any:
        def step(*_: object, **__: object) -> None:
            raise error

        return step

    for name, answer in {
        "ingest": lambda *_: tasks.Taken("1.dir", ""),
        "reproduce": lambda *_: "unchanged",
        "begin": lambda *_, **__: "parent",
        "latency": fails(OSError("no space left")),
        "abandon": fails(ConnectionError("MLflow is down")),
    }.items():
        monkeypatch.setattr(tasks, name, answer)
    monkeypatch.setattr(versioning, "stale", lambda *_: [])
    with pytest.raises(RetrainFailed, match=r"^tiny: no space left$"):
        retrain.fn(str(workspace.root), ["tiny"])
    assert "could not be ended (ConnectionError)" in caplog.text


@pytest.mark.parametrize("start", ["scratch", "champion"])
def test_what_trainings_start_from_is_laid_down_before_a_run_begins_where_it_is_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    settings = workspace.params.read_text().replace("train:\n", f"train:\n  start: {start}\n", 1)
    workspace.params.write_text(settings)
    done: list[Any] = []

    def ends(*_: object, **__: object) -> None:
        raise UserError("far enough")

    for name, answer in {
        "ingest": lambda *_: tasks.Taken("1.dir", ""),
        "check": lambda *_: None,
        "reproduce": lambda _, stage: done.append(stage),
        "lay_down": lambda *given: done.append(given[1:]),
        "begin": ends,
    }.items():
        monkeypatch.setattr(tasks, name, answer)
    monkeypatch.setattr(versioning, "stale", lambda *_: ["train@tiny-das"])
    with pytest.raises(RetrainFailed, match="far enough"):
        retrain.fn(str(workspace.root), ["tiny"])
    laid = [("tiny", ["train@tiny-das"])] if start == "champion" else []
    assert done == ["prepare@tiny", *laid]


@given(st.sets(st.sampled_from(versioning.stage_names("a", ("full", "uniform", "das")))))
def test_a_variant_is_trained_if_one_of_its_stages_is_stale(stale: set[str]) -> None:
    names = ("full", "uniform", "das")
    chosen = to_train(stale, "a", names)
    assert [v for v in names if v in chosen] == chosen
    for variant in names:
        own = {f"train@a-{variant}", f"evaluate@a-{variant}"}
        assert (variant in chosen) == bool(own & stale)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (UserError("a mistake"), False),
        (versioning.StageFailed("train@a-b", 1, "crashed"), False),
        (versioning.StageFailed("train@a-b", -9, "out of memory"), True),
        (versioning.StageFailed("train@a-b", 137, "out of memory, in a shell"), True),
        (versioning.TimeLimitError("had not ended"), False),
        (versioning.ChildrenEndedError("ended"), False),
        (versioning.DVCError("is locked"), True),
        (OSError("connection lost"), True),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_only_what_may_go_away_by_itself_is_retried(error: Exception, retried: bool) -> None:
    state = SimpleNamespace(result=lambda raise_on_failure: error)
    assert tasks.worth_retrying(None, None, state) == retried
    with versioning.children() as end:
        end()
        assert not tasks.worth_retrying(None, None, state)  # the retraining was stopped


def test_no_task_waits_for_a_limit_on_its_tags() -> None:
    """Two seconds each, where Prefect's own server keeps its records in SQLite."""
    found = [one for one in vars(tasks).values() if isinstance(one, Task)]
    assert len(found) > 5
    assert not any(one.tags for one in found)


def test_a_failure_names_each_part() -> None:
    failed = RetrainFailed({"a, das": ValueError("x"), "b": UserError("y")})
    assert str(failed) == "a, das: x; b: y"


@pytest.fixture
def settled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace that is served: what there is to do is what the test says."""
    monkeypatch.setattr(current.settling, "resume", lambda *_: None)
    monkeypatch.setattr(current, "held_due", lambda *_: [])
    return workspace


def _kept_current(workspace: Workspace) -> tuple[State[Any], attempts.Attempt | None]:
    state = current.keep_current(str(workspace.root), "tiny", "schedule", return_state=True)
    return state, attempts.last(workspace, "tiny")


@pytest.mark.usefixtures("prefect")
def test_a_night_with_nothing_new_is_noted_and_does_nothing(settled: Workspace) -> None:
    state, attempt = _kept_current(settled)
    assert (state.type.value, state.message) == ("COMPLETED", "nothing new")
    assert attempt is not None
    assert (attempt.why, attempt.outcome) == ("schedule", "nothing new")


@pytest.mark.usefixtures("prefect")
def test_a_run_skips_what_the_schedule_asked_for_by_now_and_nothing_else(
    workspace: Workspace,
) -> None:
    """Of its own deployment; neither what is still to come nor what a person has asked for."""
    now = datetime.now(UTC)
    hours = {"missed": -2, "just missed": -1, "tomorrow": 24, "by hand": -2, "another's": -2}
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(current.keep_current)
        own, other = (client.create_deployment(flow_id, name) for name in ("own", "other"))
        ids = {}
        for name, late in hours.items():
            run = client.create_flow_run_from_deployment(
                other if name == "another's" else own,
                state=Scheduled(scheduled_time=now + timedelta(hours=late)),
                tags=[] if name == "by hand" else [overdue.SCHEDULED],
                parameters={"root": str(workspace.root), "dataset": "tiny"},
            )
            ids[name] = run.id
        assert overdue.skip(own) == 2
        told = {name: client.read_flow_run(one).state for name, one in ids.items()}
    skipped = {name for name, state in told.items() if state and state.name == "Skipped"}
    assert skipped == {"missed", "just missed"}
    waiting = {name for name, state in told.items() if state and state.is_scheduled()}
    assert waiting == set(hours) - skipped


@pytest.mark.usefixtures("prefect")
def test_what_is_in_use_is_left_alone_and_no_attempt(settled: Workspace) -> None:
    with only_retraining(settled, ["tiny"], "keyslice retrain"):
        state, attempt = _kept_current(settled)
    assert state.type.value == "COMPLETED"
    assert "tiny is in use by `keyslice retrain`" in (state.message or "")
    assert attempt is None


@pytest.mark.usefixtures("prefect")
def test_a_mistake_fails_the_attempt_and_is_told(
    settled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> list[str]:
        raise UserError("no folder", where="datasets.tiny.path")

    monkeypatch.setattr(current, "held_due", mistaken)
    told: list[notify.Happening] = []
    monkeypatch.setattr(notify, "send", lambda _, __, happening: told.append(happening))
    state, attempt = _kept_current(settled)
    [happening] = told
    assert (happening.occasion, happening.dataset) == ("failure", "tiny")
    assert "datasets.tiny.path" not in happening.sentence  # words of an error stay here
    assert state.type.value == "FAILED"
    assert "datasets.tiny.path: no folder" in (state.message or "")
    assert attempt is not None
    assert attempt.outcome == "failed"


@pytest.mark.usefixtures("prefect")
def test_a_disk_too_full_to_note_an_attempt_is_told(
    settled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(attempts.files, "write_text", full)
    told: list[notify.Happening] = []
    monkeypatch.setattr(notify, "send", lambda _, __, happening: told.append(happening))
    state, attempt = _kept_current(settled)
    assert attempt is None
    assert [(one.occasion, one.dataset) for one in told] == [("failure", "tiny")]
    assert state.type.value == "FAILED"


def test_a_run_that_a_signal_ends_is_resumed_unless_a_person_cancelled_it(
    settled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> list[str]:
        raise TerminationSignal(signal.SIGTERM)

    monkeypatch.setattr(current, "held_due", ended)
    monkeypatch.setattr(current, "get_run_logger", lambda: logging.getLogger("test"))
    pushed: list[str] = []
    monkeypatch.setattr(current.settling, "push", lambda *_: pushed.append("to a remote"))
    for by_a_person, outcome in ((False, "stopped"), (True, "cancelled")):
        monkeypatch.setattr(current, "_cancelled_by_a_person", lambda told=by_a_person: told)
        with pytest.raises(TerminationSignal):
            current.keep_current.fn(str(settled.root), "tiny", "schedule")
        attempt = attempts.last(settled, "tiny")
        assert attempt is not None
        assert attempt.outcome == outcome
        assert attempt.open != by_a_person
    assert pushed == []  # whoever has sent the signal waits for seconds only


def test_fewer_new_exams_than_the_minimum_are_no_cause(
    settled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settled.params.open("a") as settings:
        settings.write("retrain: {minimum_new_exams: 3}\n")
    params = load(settled.params)
    assert isinstance(params.dataset("tiny"), FolderDataset)
    changed = f"tiny: {SOURCE_CHANGED}"
    monkeypatch.setattr(current, "held_due", lambda *_: [changed])
    for new, expected in ((0, [changed]), (2, []), (3, [changed])):
        found = News(tuple(map(str, range(new))))
        monkeypatch.setattr(current, "news", lambda *_, found=found: found)
        assert current._reasons(settled, params, "tiny", lambda _: None) == expected


def test_a_stage_that_takes_too_long_is_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "DVC", ("sh", "-c", "sleep 1000 & wait"))
    with pytest.raises(versioning.TimeLimitError, match=r"train@tiny-das had not .*stage_hours"):
        versioning.reproduce(workspace, "train@tiny-das", limit=0.3)
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(workspace.root)]
    assert left == []

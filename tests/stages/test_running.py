import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.stages import running
from keyslice.stages.running import alive, identity, only_process_of, only_retraining, under_way

STAGE = "train@a-b"
HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from keyslice.config import Workspace
    from keyslice.stages.running import only_process_of
    with only_process_of(Workspace(Path(sys.argv[1])), "train@a-b"):
        print("held", flush=True)
        time.sleep(600)
    """
)


# A parent that starts the stage and is killed, as DVC with -9.
PARENT = textwrap.dedent(
    """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(600)
    """
)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "HANDOVER_SECONDS", 0.1)
    return Workspace(tmp_path)


@pytest.fixture
def holder(workspace):
    """Another process that runs the stage."""
    command = [sys.executable, "-c", HOLD, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def orphan(workspace):
    """Another process that runs the stage and whose parent was killed."""
    command = [sys.executable, "-c", PARENT, "-c", HOLD, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dvc:
        process = psutil.Process(int(dvc.stdout.readline()))
        dvc.kill()
    yield process
    if _runs(process):
        process.kill()


def _runs(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _note(workspace):
    return workspace.state / "locks" / f"{STAGE}.json"


def _refused(workspace, who):
    return pytest.raises(UserError, match=who), only_process_of(workspace, STAGE)


def test_the_note_is_there_while_the_stage_runs_and_gone_after(workspace):
    with only_process_of(workspace, STAGE):
        assert json.loads(_note(workspace).read_text())["process"]["pid"] == psutil.Process().pid
    assert not _note(workspace).exists()


def test_a_second_process_is_refused_while_the_firsts_parent_lives(workspace, holder):
    refused, attempt = _refused(workspace, f"running already, by .*process {holder.pid} on")
    with refused, attempt:
        pass
    assert holder.poll() is None


def test_of_many_at_once_one_runs_the_stage(workspace):
    start, inside, most = threading.Barrier(8), [], []

    def attempt():
        start.wait()
        try:
            with only_process_of(workspace, STAGE):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.05)
                inside.pop()
        except UserError:
            pass

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most
    assert max(most) == 1


def test_a_holder_whose_note_is_not_written_yet_is_not_passed(workspace, holder):
    _note(workspace).unlink()
    refused, attempt = _refused(workspace, "only just begun")
    with refused, attempt:
        pass


def test_an_orphan_of_a_killed_run_is_ended(workspace, orphan):
    with only_process_of(workspace, STAGE):
        assert not _runs(orphan)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "another"},  # its numbers mean nothing here
        {"parent": None},  # it never had one, as the first process of a container
        {"process": {"started": 0.0}},  # the number is another process's now
    ],
)
def test_who_is_not_surely_an_orphan_is_left_alone(workspace, orphan, change):
    note = json.loads(_note(workspace).read_text())
    assert note["host"] == socket.gethostname()
    for key, value in change.items():
        note[key] = note[key] | value if isinstance(value, dict) else value
    _note(workspace).write_text(json.dumps(note))
    refused, attempt = _refused(workspace, f"process {orphan.pid} on")
    with refused, attempt:
        pass
    assert _runs(orphan)


@pytest.mark.parametrize("left", ['{"process": {"pi', '{"process": {"pid": 1, "started": 0}}'])
def test_what_a_dead_process_noted_is_no_obstacle(workspace, left):
    _note(workspace).parent.mkdir(parents=True)
    _note(workspace).write_text(left)
    with only_process_of(workspace, STAGE):
        pass


def test_who_retrains_or_registers_a_dataset_is_named_to_a_second(workspace):
    me = psutil.Process().pid
    second = only_retraining(workspace, ["a", "b"], "keyslice register")
    with (
        only_retraining(workspace, ["b"], "keyslice retrain"),
        pytest.raises(UserError, match=f"b is in use by `keyslice retrain`, process {me}"),
        second,
    ):
        pass
    assert list((workspace.state / "locks").glob("*.json")) == []
    with only_retraining(workspace, ["a", "b"], "keyslice register"):  # nothing stayed held
        pass


def test_what_runs_now_is_told_and_what_was_killed_is_not(workspace, holder):
    with only_retraining(workspace, ["a"], "keyslice retrain"):
        retraining, stage = under_way(workspace)
    assert (retraining.name, stage.name) == ("retrain-a", STAGE)
    assert f"`keyslice retrain`, process {psutil.Process().pid} on" in retraining.holder
    assert abs(stage.since.timestamp() - time.time()) < 60
    holder.kill()
    holder.wait()
    assert under_way(workspace) == []


def _from_another_host(workspace):
    """The note as it is seen where the host has another name."""
    _note(workspace).write_text(
        json.dumps(json.loads(_note(workspace).read_text()) | {"host": "another"})
    )


def test_what_runs_on_another_host_is_told_and_left_alone(workspace, holder):
    _from_another_host(workspace)
    assert [one.name for one in under_way(workspace)] == [STAGE]
    refused, attempt = _refused(workspace, f"process {holder.pid} on another")
    with refused, attempt:
        pass
    assert holder.poll() is None


def test_what_was_killed_under_another_name_of_the_host_is_not_told(workspace, holder):
    """As in a container that was killed and made anew."""
    _from_another_host(workspace)
    holder.kill()
    holder.wait()
    assert under_way(workspace) == []
    assert not _note(workspace).exists()
    with only_process_of(workspace, STAGE):  # and the lock is free as before
        assert [one.name for one in under_way(workspace)] == [STAGE]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a clock step is seen elsewhere")
def test_a_process_is_known_again_after_the_clock_was_set(monkeypatch):
    known = identity(psutil.Process())
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 3600)
    assert alive(known) is not None
    assert alive(dict(known or {}) | {"started": "another"}) is None

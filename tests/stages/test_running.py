import json
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.stages.running import only_process_of

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


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def _record(workspace):
    return workspace.state / "locks" / f"{STAGE}.json"


def test_the_record_is_there_while_the_stage_runs_and_gone_after(workspace):
    with only_process_of(workspace, STAGE):
        assert json.loads(_record(workspace).read_text())["process"]["pid"] == psutil.Process().pid
    assert not _record(workspace).exists()


def test_a_second_process_is_refused_while_the_firsts_parent_lives(workspace):
    command = [sys.executable, "-c", HOLD, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "held\n"
            with (
                pytest.raises(UserError, match=f"running already, as process {first.pid}"),
                only_process_of(workspace, STAGE),
            ):
                pass
        finally:
            first.kill()


def test_an_orphan_of_a_killed_run_is_ended(workspace):
    # A parent that starts the stage and is killed, as DVC with -9.
    parent = textwrap.dedent(
        """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(600)
        """
    )
    command = [sys.executable, "-c", parent, "-c", HOLD, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dvc:
        orphan = psutil.Process(int(dvc.stdout.readline()))
        dvc.kill()
    with only_process_of(workspace, STAGE):
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_number_that_another_process_has_now_is_left_alone(workspace):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        try:
            identity = {"pid": other.pid, "started": time.time() - 1e6}
            _record(workspace).parent.mkdir(parents=True)
            _record(workspace).write_text(json.dumps({"process": identity, "parent": None}))
            with only_process_of(workspace, STAGE):
                assert other.poll() is None
        finally:
            other.kill()


def test_a_torn_record_is_no_obstacle(workspace):
    _record(workspace).parent.mkdir(parents=True)
    _record(workspace).write_text('{"process": {"pi')
    with only_process_of(workspace, STAGE):
        pass

import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams.lock import HELD, dataset_lock, locked

HOLDER = """
import sys, time, pathlib
from keyslice.config import Workspace
from keyslice.exams.lock import dataset_lock
with dataset_lock(Workspace(pathlib.Path(sys.argv[1])), "ward", "ingest"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(workspace: Workspace):
    """Another process that holds the lock of `ward`."""
    arguments = [sys.executable, "-c", HOLDER, str(workspace.root)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_caller_is_told_who_holds_the_lock(workspace, holder, caplog):
    who = rf"`ingest`, process {holder.pid} on .*, since 20"
    taken = dataset_lock(workspace, "ward", "prepare", patience=0.1)
    with pytest.raises(UserError, match=who), taken:
        pass
    assert f"process {holder.pid}" in caplog.text


def test_another_dataset_is_free(workspace, holder):
    with dataset_lock(workspace, "other", "prepare", patience=0):
        pass


def test_a_killed_holder_leaves_the_lock_free(workspace, holder):
    holder.kill()
    holder.wait()
    with dataset_lock(workspace, "ward", "prepare", patience=0):
        pass


def test_the_same_thread_may_enter_again_and_the_outermost_exit_releases(workspace):
    def blocked() -> bool:
        outcome = []

        def attempt() -> None:
            try:
                with dataset_lock(workspace, "ward", "other", patience=0):
                    outcome.append(False)
            except UserError:
                outcome.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return outcome[0]

    with dataset_lock(workspace, "ward", "ingest"):
        with dataset_lock(workspace, "ward", "ingest", patience=0):
            assert blocked()
        assert blocked()
    assert not blocked()


def test_a_dataset_may_have_the_name_of_any_other_lock(workspace, holder):
    for name in ("ward", "mlflow", "datasets"):
        with (
            dataset_lock(workspace, "mlflow", "prepare"),
            FileLock(workspace.lock(name), timeout=0),
        ):
            pass


def test_a_stage_whose_starter_holds_the_dataset_does_not_wait_for_it(
    workspace, holder, monkeypatch
):
    monkeypatch.setenv(HELD, "ward")
    with dataset_lock(workspace, "ward", "prepare", patience=0):
        pass
    with pytest.raises(UserError), locked(workspace, "dataset-ward", "prepare", patience=0):
        pass

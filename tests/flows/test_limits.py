"""An end to what hangs, within the reach of an exception and out of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.limits import limited
from keyslice.errors import RunError

HANGS = """
import os, signal, sys
from flows import limits
limits.GRACE = 1.0
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as in a share that does not answer
with limits.limited(0.5, RuntimeError("it hangs")):
    open(sys.argv[1]).read()
"""


@pytest.mark.timeout(60, method="thread")  # SIGALRM, as `limited`, which would have none
def test_what_an_exception_reaches_is_ended_by_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "share")
    with pytest.raises(RunError, match="it hangs"), limited(0.5, RunError("it hangs")):
        (tmp_path / "share").read_bytes()


@pytest.mark.timeout(60, method="thread")
def test_what_ends_in_time_is_left_alone() -> None:
    with limited(0.2, RunError("it hangs")):
        pass
    time.sleep(0.4)


def test_what_no_exception_reaches_ends_with_its_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "share")
    command = [sys.executable, "-c", HANGS, str(tmp_path / "share")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -9
    assert ended.stderr == "it hangs; this process is ended: nothing else reaches it\n"

"""`python leash.py OWNER COMMAND …`: runs COMMAND, and ends its whole group when OWNER is gone.

For a child whose owner nobody looks after: a worker that is killed on another machine would leave a
training behind, which the next one on that machine alone could end. A file of its own that imports
nothing of Keyslice's, so that it starts in no time.
"""

import os
import signal
import subprocess
import sys

SECONDS = 1.0
"""From one look at the owner to the next."""


def main(owner: int, command: list[str]) -> int:
    """Exit status of `command`; that of a shell where a signal has ended it."""
    child = subprocess.Popen(command)
    while True:
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != owner:
                os.killpg(os.getpgrp(), signal.SIGKILL)
        else:
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))

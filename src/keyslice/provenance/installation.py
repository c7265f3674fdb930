"""Which installation this is: an MLflow server may be shared by several."""

import uuid

from filelock import FileLock

from keyslice import files
from keyslice.config import Workspace


def installation(workspace: Workspace) -> str:
    """A random id, made when it is first asked for and kept in state/installation.

    It goes with state/: what is restored from a backup is the same installation.
    """
    file, guard = workspace.state / "installation", workspace.lock("installation")
    guard.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(guard):  # two at once would each make one
        if not file.is_file():
            files.write_text(file, uuid.uuid4().hex + "\n")
        return file.read_text(encoding="utf-8").strip()

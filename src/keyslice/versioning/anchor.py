"""Commits beside the branches that hold the heads of the ledger, and their way to a remote."""

import os
from collections.abc import Mapping

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError, without_credentials
from keyslice.versioning import git, processes

LIMIT_SECONDS = 120.0
"""That a remote has for a push or a fetch, before it is given up until the next command."""
REF = "refs/keyslice/ledger"
_ALL = "refs/keyslice/runs/*:refs/keyslice/runs/*"


def copy_of(remote: str) -> str:
    """Where a remote's REF is kept once it has been fetched."""
    return f"refs/keyslice/remotes/{remote}/ledger"


def possible(workspace: Workspace) -> bool:
    """Whether the workspace is a git repository."""
    try:
        git.check_repository(workspace)
    except UserError:
        return False
    return True


def write(workspace: Workspace, contents: Mapping[str, str], message: str) -> str:
    """Add a commit with these files to REF, on top of those that are there; returns its sha.

    Raises:
        UserError: the workspace is no git repository, or another process has just added one.
    """
    root = workspace.root
    blobs = {
        name: git.ask(root, "hash-object", "-w", "--stdin", stdin=text)
        for name, text in contents.items()
    }
    listing = "".join(f"100644 blob {sha}\t{name}\n" for name, sha in sorted(blobs.items()))
    tree = git.ask(root, "mktree", stdin=listing)
    last = git.revision(root, REF)
    parent = ["-p", last] if last else []
    commit = git.ask(root, "commit-tree", tree, *parent, "-m", message, environment=git.IDENTITY)
    git.ask(root, "update-ref", REF, commit, last or "")
    return commit


def contents(workspace: Workspace, ref: str, name: str) -> list[str]:
    """What file `name` held in each commit of `ref`, the oldest first; none: no such ref.

    Raises:
        UserError: git cannot read them: the repository is damaged.
    """
    if not possible(workspace) or git.revision(workspace.root, ref) is None:
        return []
    commits = git.ask(workspace.root, "rev-list", "--reverse", ref).split()
    found = git.blobs(workspace.root, [f"{commit}:{name}" for commit in commits])
    return [text for text in found if text is not None]


def unpushed(workspace: Workspace, remote: str) -> bool:
    """Whether REF has a commit that was not seen on the remote yet."""
    here = git.revision(workspace.root, REF) if possible(workspace) else None
    return here is not None and here != git.revision(workspace.root, copy_of(remote))


def push(workspace: Workspace, remote: str) -> None:
    """Send REF and the run commits, and fetch them back; what is there is never overwritten.

    Raises:
        RunError: the remote cannot be reached, or its heads are others.
    """
    _remote(workspace, "push", remote, f"{REF}:{REF}", _ALL)
    fetch(workspace, remote)


def fetch(workspace: Workspace, remote: str) -> None:
    """Bring a remote's REF into `copy_of(remote)`.

    Raises:
        RunError: the remote cannot be reached, or has none.
    """
    _remote(workspace, "fetch", remote, f"+{REF}:{copy_of(remote)}")


def _remote(workspace: Workspace, command: str, remote: str, *references: str) -> None:
    try:
        finished = processes.run(
            ("git", *_BRISK, command, "--quiet", remote, *references),
            cwd=workspace.root,
            variables=_unattended(workspace),
            limit=LIMIT_SECONDS,
        )
    except processes.TimeLimitError:
        raise RunError(
            f"git {command} {remote}: had not ended after {LIMIT_SECONDS:g} s, and was ended"
        ) from None
    if finished.code != 0:
        said = " ".join(" ".join(finished.lines).split()) or f"exit code {finished.code}"
        raise RunError(f"git {command} {remote}: {without_credentials(said)}")


_BRISK = ("-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30")
"""A server that sends nothing for half a minute is given up."""
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=10 -oServerAliveInterval=15"


def _unattended(workspace: Workspace) -> dict[str, str]:
    """With these git asks nobody for a password: a window would wait for a person for ever.

    A person's own way to call ssh is theirs.
    """
    variables = {"LC_ALL": "C", "GIT_ASKPASS": "false", "SSH_ASKPASS": "false"}
    own = git.ask(workspace.root, "config", "--default", "", "--get", "core.sshCommand")
    if own or any(os.environ.get(name) for name in ("GIT_SSH_COMMAND", "GIT_SSH")):
        return variables
    return variables | {"GIT_SSH_COMMAND": _SSH}

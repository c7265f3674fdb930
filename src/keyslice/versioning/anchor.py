"""Commits beside the branches that hold the heads of the ledger, and their way to a remote."""

import subprocess
from collections.abc import Mapping

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError, without_credentials
from keyslice.versioning import git, processes

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
    answer = subprocess.run(
        ["git", command, "--quiet", remote, *references],
        cwd=workspace.root,
        env=processes.environment() | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if answer.returncode != 0:
        said = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise RunError(f"git {command} {remote}: {without_credentials(said)}")

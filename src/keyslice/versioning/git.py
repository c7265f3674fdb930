"""The run commit: the tree of a run as a commit of its own, beside the person's branch."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.versioning import processes

RUN_FILES = (
    ".gitignore",
    ".dvc/config",
    ".dvcignore",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "requirements.lock",
    "data/datasets.yaml",
    "data/exams/*.dvc",
)
RUN_FOLDERS = ("src", "flows")
"""What is a run's own where git does not track it yet. Anything else that lies in the workspace may
be an exam or a table with patient ids, and a commit is pushed."""
RUNS = "refs/keyslice/runs"

# The machine commits, not the person: no name needs to be configured, and who approved what is
# not told by a commit.
_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Keyslice"), ("EMAIL", "keyslice@localhost"))
}


def run_commit(
    workspace: Workspace, run_id: str, message: str, *, check: Callable[[], None] = lambda: None
) -> str:
    """Write the tree as it is (tracked files, RUN_FILES, and what git does not ignore in
    RUN_FOLDERS) as the commit refs/keyslice/runs/<run_id>; returns its sha.

    Branch, HEAD, index and working tree stay as they are. The parent is HEAD where there is one.
    A run has one commit: asked again, the first one is returned.

    `check` is called when the tree has been read and nothing refers to it yet: what it finds right
    then was so in the commit. What it raises leaves no commit.

    Raises:
        UserError: the workspace is no git repository, or git cannot read its tree.
    """
    root, ref = workspace.root, f"{RUNS}/{run_id}"
    _git(root, "check-ref-format", ref)
    known = _revision(root, ref)
    if known:
        check()
        return known
    head = _revision(root, "HEAD")
    current = root / _git(root, "rev-parse", "--git-path", "index")
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        index = Path(folder) / "index"
        if current.is_file():
            # From the person's index: files tracked though ignored stay in. With its times, or git
            # would trust entries that it knows to be too young.
            shutil.copy2(current, index)
        own = {"GIT_INDEX_FILE": str(index)}
        _git(root, "add", "--update", ":/", environment=own)
        named = [path for pattern in RUN_FILES for path in sorted(root.glob(pattern))]
        if named:  # also where a person's own settings have git ignore every *.lock
            _git(root, "add", "--force", "--", *map(str, named), environment=own)
        folders = [name for name in RUN_FOLDERS if (root / name).exists()]
        if folders:
            _git(root, "add", "--", *folders, environment=own)
        tree = _git(root, "write-tree", environment=own)
    parent = ["-p", head] if head else []
    commit = _git(root, "commit-tree", tree, *parent, "-m", message, environment=_IDENTITY)
    check()
    _git(root, "update-ref", ref, commit, "")  # "": fails if another run has written it meanwhile
    return commit


def check_repository(workspace: Workspace) -> None:
    """Whether git can record a run here; asked before the work whose run it is to record.

    Raises:
        UserError: the workspace is no git repository, or git does not read it.
    """
    _git(workspace.root, "rev-parse", "--git-path", "index")


def _revision(root: Path, name: str) -> str | None:
    """The commit that `name` stands for; None: there is none."""
    answer = _run(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if answer.returncode > 1:
        raise _failed("rev-parse", answer)
    return answer.stdout.strip() or None


def _git(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    answer = _run(root, *arguments, environment=environment)
    if answer.returncode != 0:
        raise _failed(arguments[0], answer)
    return answer.stdout.strip()


def _failed(command: str, answer: "subprocess.CompletedProcess[str]") -> UserError:
    said = answer.stderr.strip() or f"exit code {answer.returncode}"
    missing = "not a git repository" in said
    return UserError(
        said,  # of folders that git does not trust: with the command that helps
        where=f"git {command}",
        rule="a run is recorded as a git commit",
        remedy="run in a git clone" if missing else "",
    )


def _run(
    root: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", *arguments],
        cwd=root,
        env=processes.environment() | {"LC_ALL": "C"} | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )

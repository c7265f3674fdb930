"""The run commit: the tree of a run as a commit of its own, beside the person's branch."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
    "data/initial/[!.]*.json",
    "data/initial/*.dvc",
)
RUN_FOLDERS = ("src", "flows")
"""What is a run's own where git does not track it yet. Anything else that lies in the workspace may
be an exam or a table with patient ids, and a commit is pushed."""
RUNS = "refs/keyslice/runs"
WITHOUT_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
"""A hook could wait for a person, or refuse."""

# The machine commits, not the person: no name needs to be configured, and who approved what is
# not told by a commit.
IDENTITY = {
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
    ask(root, "check-ref-format", ref)
    known = revision(root, ref)
    if known:
        check()
        return known
    head = revision(root, "HEAD")
    tree = _tree(root)
    parent = ["-p", head] if head else []
    commit = ask(root, "commit-tree", tree, *parent, "-m", message, environment=IDENTITY)
    check()
    ask(root, "update-ref", ref, commit, "")  # "": fails if another run has written it meanwhile
    return commit


def archive(workspace: Workspace) -> tuple[str, bytes]:
    """The tree that a run commit would have now: its sha, and its files as tar.gz.

    Raises:
        UserError: the workspace is no git repository, or git cannot read its tree.
    """
    root = workspace.root
    tree = _tree(root)
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        file = Path(folder) / "tree.tar.gz"
        ask(root, "archive", "--format=tar.gz", f"--output={file}", tree)
        return tree, file.read_bytes()


def _tree(root: Path) -> str:
    """The sha of the tree as it is; see `run_commit`."""
    current = root / ask(root, "rev-parse", "--git-path", "index")
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        index = Path(folder) / "index"
        if current.is_file():
            # From the person's index: files tracked though ignored stay in. With its times, or git
            # would trust entries that it knows to be too young.
            shutil.copy2(current, index)
        own = {"GIT_INDEX_FILE": str(index)}
        ask(root, "add", "--update", ":/", environment=own)
        named = [path for pattern in RUN_FILES for path in sorted(root.glob(pattern))]
        if named:  # also where a person's own settings have git ignore every *.lock
            ask(root, "add", "--force", "--", *map(str, named), environment=own)
        folders = [name for name in RUN_FOLDERS if (root / name).exists()]
        if folders:
            ask(root, "add", "--", *folders, environment=own)
        return ask(root, "write-tree", environment=own)


def check_repository(workspace: Workspace) -> None:
    """Whether git can record a run here; asked before the work whose run it is to record.

    Raises:
        UserError: the workspace is no git repository, or git does not read it.
    """
    ask(workspace.root, "rev-parse", "--git-path", "index")


def revision(root: Path, name: str) -> str | None:
    """The commit that `name` stands for; None: there is none."""
    answer = _run(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if answer.returncode > 1:
        raise _failed("rev-parse", answer)
    return answer.stdout.strip() or None


def ask(
    root: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """What git answers, without the white space around it.

    Raises:
        UserError: it refuses.
    """
    answer = _run(root, *arguments, environment=environment, stdin=stdin)
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


def blobs(root: Path, names: Sequence[str]) -> "list[str | None]":
    """The content of each object that git's `COMMIT:PATH` names; None: there is no such path.

    Raises:
        UserError: git cannot read one.
    """
    asked = "".join(f"{name}\n" for name in names)
    answer = _run(root, "cat-file", "--batch", stdin=asked, errors="surrogateescape")
    if answer.returncode != 0:
        raise _failed("cat-file", answer)
    found: list[str | None] = []
    left = answer.stdout.encode(errors="surrogateescape")
    for _ in names:
        header, _, left = left.partition(b"\n")
        if header.endswith(b" missing"):
            found.append(None)
            continue
        size = int(header.rpartition(b" ")[2])
        found.append(left[:size].decode(errors="replace"))
        left = left[size + 1 :]
    return found


def _run(
    root: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    errors: str = "replace",
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", *WITHOUT_HOOKS, *arguments],
        cwd=root,
        env=processes.environment() | {"LC_ALL": "C"} | dict(environment or {}),
        input=stdin or "",
        capture_output=True,
        encoding="utf-8",
        errors=errors,
        check=False,
    )

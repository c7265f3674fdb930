"""One commit on the current branch after a retraining, beside whatever a person is at.

It holds what the retraining moved (see `moved`) and nothing else. It is built from HEAD's tree, not
from the person's index, and the branch moves only from the commit that it was built on: a person's
commit in the meantime is built upon. What a person has staged or edited stays as it is.

First the entries of the committed files change in the person's index, then the branch moves. So
at no moment would a commit of the person's take the retraining back; a kill in between leaves these
files staged, and the next call commits them.

No hook runs, and the commit is not signed, whatever `commit.gpgsign` says: both may ask a person.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.exams.lock import locked
from keyslice.versioning import git, index, moved
from keyslice.versioning.index import plumbing

MOVE_SECONDS = 30.0
"""Within which the branch has to be caught between a person's commits."""
UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or git am",
    "BISECT_START": "a bisection",
}
"""What git is in the middle of, by the file that says so."""


class NotCommitted(RunError):  # noqa: N818 - what is so, no failure
    """Nothing was committed, and why, in one line; the next retraining commits it as well."""


def retraining_message(
    dataset: str, *, version: str, model_version: int, run_id: str, ledger: str
) -> str:
    """What the commit says; git reads its last lines as trailers (`git log --format=%(trailers)`).

    Args:
        dataset: its name.
        version: of the dataset.
        model_version: that was registered.
        run_id: of the retraining in MLflow.
        ledger: the number of the ledger's last event and its hash.
    """
    return (
        f"keyslice: retrain {dataset}, version {model_version}\n\n"
        f"Dataset-Version: {version}\n"
        f"Model-Version: {model_version}\n"
        f"Run: {run_id}\n"
        f"Ledger-Head: {ledger}\n"
    )


def commit_retraining(workspace: Workspace, dataset: str, message: str) -> str | None:
    """Commit what a dataset's retraining moved; returns the commit's sha, None: nothing had moved.

    The author is whom git's settings name, else Keyslice.

    Raises:
        NotCommitted: git is in the middle of a merge or the like, no branch is checked out (or in
            two folders, or without a commit), a file to commit is staged with other content, or
            git fails.
    """
    try:
        with locked(workspace, "branch", "committing a retraining"):
            deadline = time.monotonic() + MOVE_SECONDS
            while True:
                try:
                    return _attempt(workspace, dataset, message)
                except _Moved:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
    except (UserError, RunError, OSError) as error:
        raise NotCommitted(f"nothing of {dataset} was committed: {error}") from error


def uncommitted(workspace: Workspace, dataset: str) -> bool:
    """Whether `commit_retraining` would find something to commit, were it safe to.

    False where that cannot be told: the branch has no commit, or a file is damaged.
    """
    try:
        head = git.revision(workspace.root, "HEAD")
        if head is None:
            return False
        old, new = _entries(workspace, dataset, head)
    except (UserError, RunError, OSError):
        return False
    return any(entry != old[path] for path, entry in new.items())


class _Moved(RunError):  # noqa: N818
    """The branch is not where the commit was built, or cannot be moved right now."""


def _attempt(workspace: Workspace, dataset: str, message: str) -> str | None:
    """`commit_retraining`, once.

    Raises:
        _Moved: another attempt may succeed.
        RunError: it is not safe to commit.
        UserError: git fails.
    """
    root = workspace.root
    head = git.revision(root, "HEAD")
    idle = _check_of(root)
    idle()
    branch = _branch(root, head)
    assert head is not None
    old, new = _entries(workspace, dataset, head)
    new = {path: entry for path, entry in new.items() if entry != old[path]}
    old = {path: old[path] for path in new}
    if not new:
        return None
    tree = index.tree_with(root, head, new)
    who = _identity(root)
    commit = plumbing(root, "commit-tree", tree, "-p", head, "-m", message, environment=who)

    def unmoved() -> None:
        idle()
        if git.revision(root, "HEAD") != head:
            raise _Moved("the branch keeps moving")

    index.exchange(root, old, new, check=unmoved)
    title = message.partition("\n")[0]
    try:
        plumbing(root, "update-ref", "-m", title, branch, commit, head, environment=who)
    except UserError as error:
        with suppress(RunError):  # not where HEAD has moved: a person's commit may hold them now
            index.exchange(root, new, old, check=unmoved)
        raise _Moved(str(error)) from None
    return commit


def _branch(root: Path, head: str | None) -> str:
    """The full name of the branch that is checked out here, and only here."""
    if head is None:
        raise RunError("the branch has no commit yet; make the first one")
    try:
        branch = plumbing(root, "symbolic-ref", "HEAD")
    except UserError:
        branch = ""
    if not branch.startswith("refs/heads/"):
        raise RunError("no branch is checked out (HEAD is detached); git switch BRANCH")
    listed = plumbing(root, "worktree", "list", "--porcelain").split("\n\n")
    holders = [lines for one in listed if f"branch {branch}" in (lines := one.splitlines())]
    if sum(not any(line.startswith("prunable") for line in lines) for lines in holders) > 1:
        raise RunError(f"{branch} is checked out in another folder, too (git worktree list)")
    return branch


def _check_of(root: Path) -> Callable[[], None]:
    """A check, of files alone, that git is in the middle of nothing."""
    asked = [word for name in UNDER_WAY for word in ("--git-path", name)]
    files = plumbing(root, "rev-parse", *asked).splitlines()
    known = {root / file: what for file, what in zip(files, UNDER_WAY.values(), strict=True)}

    def check() -> None:
        for file, what in known.items():
            if file.exists():
                raise RunError(f"git is in the middle of {what} (git status); end it")

    return check


def _entries(
    workspace: Workspace, dataset: str, head: str
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """The entries of the dataset's files in the commit `head`, and what they are to become."""
    root, below = workspace.root, moved.paths(workspace, dataset)
    prefix = plumbing(root, "rev-parse", "--show-prefix")
    old = index.committed(root, head, [prefix + path for path in below])
    odd = [path for path in below if (root / path).is_symlink()]
    odd += [path for path, entry in old.items() if entry and not entry.startswith("100")]
    if odd:
        raise RunError(f"{odd[0]} is no plain file, here or in the last commit")
    texts = git.blobs(root, [f"{head}:{prefix}{path}" for path in below])
    new: dict[str, str | None] = {}
    wanted = moved.contents(workspace, dataset, dict(zip(below, texts, strict=True)))
    for path, text in wanted.items():
        if text is None:
            new[prefix + path] = None
            continue
        sha = plumbing(root, "hash-object", "-w", "--stdin", "--path", path, stdin=text)
        mode = (old[prefix + path] or "100644").partition(" ")[0]
        new[prefix + path] = f"{mode} {sha}"
    return old, new


def _identity(root: Path) -> Mapping[str, str]:
    """Nothing to set where git's settings or the environment name a person, else Keyslice's."""
    named = ("-c", "user.useConfigOnly=true", "var")
    try:
        for role in ("AUTHOR", "COMMITTER"):
            plumbing(root, *named, f"GIT_{role}_IDENT")
    except UserError:
        return git.IDENTITY
    return {}

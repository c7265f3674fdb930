"""A retraining is committed on the branch; what a person is at stays as it is."""

import functools
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyslice import initial, versioning
from keyslice.config import Workspace
from keyslice.initial import Ancestor
from keyslice.versioning import branch, index, lock
from tests import killing

Git = Callable[..., str]
LOCK, LIST = "dvc.lock", "data/datasets.yaml"
TINY, WARD = "data/exams/tiny.dvc", "data/exams/ward.dvc"
OURS = {TINY, LOCK}
MESSAGE = versioning.retraining_message(
    "tiny", version="abc.dir", model_version=3, run_id="f00", ledger="17 beef"
)


def files_of(git: Git, commit: str) -> set[str]:
    """What a commit changed."""
    return set(git("diff-tree", "-r", "--no-commit-id", "--name-only", commit).split())


def persons(git: Git) -> tuple[str, str, list[str]]:
    """What a person has staged, and edited, to the byte, and what git says of each file."""
    others = ("--", ".", *(f":(exclude){path}" for path in (*OURS, LIST)))
    lines = git("status", "--porcelain", *others).splitlines()
    return git("diff", "--cached", *others), git("diff", *others), lines


def everything(root: Path, git: Git) -> tuple[object, ...]:
    """Branches, HEAD, index and what git says of the files."""
    status = git("--no-optional-locks", "status", "--porcelain")
    held = (root / ".git/index.lock").exists()
    return git("for-each-ref"), git("rev-parse", "HEAD"), status, git("ls-files", "-s"), held


def work(root: Path, git: Git) -> None:
    """Staged, staged in part, staged as deleted, edited, new."""
    lines = (root / "notes").read_text().splitlines(keepends=True)
    (root / "notes").write_text("".join(["staged\n", *lines[1:]]))
    git("add", "notes")
    (root / "notes").write_text("".join(["staged\n", *lines[1:-1], "edited\n"]))
    git("rm", "--quiet", "--cached", "draft")
    (root / "plan").write_text("edited")
    (root / "staged").write_text("a new one")
    git("add", "staged")
    git("add", "--intent-to-add", "draft")
    (root / "new").write_text("untracked")


def test_a_retraining_is_one_commit_of_its_own_files(workspace: Workspace, git: Git) -> None:
    before = git("rev-parse", "HEAD").strip()
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert sha is not None
    assert git("rev-parse", "refs/heads/main", f"{sha}^").split() == [sha, before]
    assert files_of(git, sha) == OURS
    assert git("show", f"{sha}:{TINY}") == workspace.pointer("tiny").read_text()
    assert git("log", "-1", "--format=%an %ae %cn %ce %s") == (
        "Anna anna@ward Anna anna@ward keyslice: retrain tiny, version 3\n"
    )
    assert git("log", "-1", "--format=%(trailers:key=Ledger-Head,valueonly)").split() == [
        "17",
        "beef",
    ]
    assert git("log", "-1", "-g", "--format=%gs", "HEAD") == git("log", "-1", "--format=%s")


def test_what_trainings_start_from_is_committed_and_goes_when_they_start_from_scratch(
    workspace: Workspace, git: Git
) -> None:
    champion = Ancestor("tiny", 1, "1.dir", "p", "w", ("no",), "das", "x", "none", None)
    said, pointer = workspace.initial("tiny"), workspace.networks_pointer("tiny")
    initial.write(workspace, "tiny", {"das": champion})
    pointer.write_text(workspace.pointer("tiny").read_text())
    initial.write(workspace, "ward", {"das": None})
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    both = {f"data/initial/{path.name}" for path in (said, pointer)}
    assert files_of(git, str(sha)) == OURS | both
    initial.write(workspace, "tiny", {"das": None})
    pointer.unlink()
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert files_of(git, str(sha)) == both
    assert git("ls-tree", "--name-only", "HEAD", "data/initial/").split() == [
        "data/initial/tiny.json"
    ]
    assert "tiny" not in git("status", "--porcelain")


def test_of_files_that_all_datasets_share_the_commit_holds_this_ones_part(
    workspace: Workspace, git: Git
) -> None:
    """Another dataset's retraining is under way, or a person tries something by hand."""
    first = lock.entries_in(git("show", f"HEAD:{LOCK}"))
    now = lock.entries(workspace)
    assert first["prepare@ward"] != now["prepare@ward"]
    versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert lock.entries_in(git("show", f"HEAD:{LOCK}")) == {
        "prepare@tiny": now["prepare@tiny"],
        "prepare@ward": first["prepare@ward"],
    }
    assert git("status", "--porcelain") == f" M {WARD}\n M {LOCK}\n"
    sha = versioning.commit_retraining(workspace, "ward", "the other")
    assert files_of(git, str(sha)) == {WARD, LOCK}
    assert git("status", "--porcelain") == ""


def test_two_datasets_that_end_at_the_same_time_are_two_commits(
    workspace: Workspace, git: Git
) -> None:
    with ThreadPoolExecutor() as pool:
        ends = [
            pool.submit(versioning.commit_retraining, workspace, dataset, dataset)
            for dataset in ("tiny", "ward")
        ]
    shas = {end.result() for end in ends}
    assert set(git("log", "-2", "--format=%H").split()) == shas
    assert git("status", "--porcelain") == ""


def test_what_a_person_has_staged_or_edited_stays_as_it_is(workspace: Workspace, git: Git) -> None:
    work(workspace.root, git)
    before = persons(git)
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert files_of(git, str(sha)) == OURS
    assert persons(git) == before
    assert git("diff", "--cached", "--", *OURS) == ""  # not shown as taken back
    assert git("fsck", "--no-dangling") == ""


@pytest.mark.parametrize("key", ["core.splitIndex", "core.untrackedCache", "feature.manyFiles"])
def test_an_index_of_another_form_is_kept(workspace: Workspace, git: Git, key: str) -> None:
    git("config", key, "true")
    work(workspace.root, git)
    before = persons(git)
    versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert persons(git) == before
    assert git("diff", "--cached", "--", *OURS) == ""


def test_a_sparse_checkout_is_kept(workspace: Workspace, git: Git) -> None:
    git("commit", "--quiet", "-m", "second", WARD)
    git("sparse-checkout", "set", "--no-cone", "/*", "!/data/exams/")
    sparse = f"S {WARD}\n"
    assert git("ls-files", "-t", WARD) == sparse
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert files_of(git, str(sha)) == OURS
    assert git("ls-files", "-t", WARD) == sparse
    assert git("status", "--porcelain") == f" M {LOCK}\n"


def test_nothing_moved_is_no_commit(workspace: Workspace, git: Git) -> None:
    assert versioning.uncommitted(workspace, "tiny")
    versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert not versioning.uncommitted(workspace, "tiny")
    before = everything(workspace.root, git)
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE) is None
    assert everything(workspace.root, git) == before


def test_what_a_person_has_committed_himself_is_not_committed_again(
    workspace: Workspace, git: Git
) -> None:
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE) is None


def test_what_is_staged_as_it_is_committed_is_no_obstacle(workspace: Workspace, git: Git) -> None:
    git("add", TINY)
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert git("diff", "--cached") == ""


def in_conflict(git: Git, root: Path) -> str:
    """A branch whose commit does not go with the one that is checked out."""
    git("stash", "--quiet")
    git("switch", "--quiet", "--create", "other")
    (root / "notes").write_text("theirs")
    git("commit", "--quiet", "-am", "theirs")
    git("switch", "--quiet", "main")
    (root / "notes").write_text("mine")
    git("commit", "--quiet", "-am", "mine")
    git("stash", "pop", "--quiet")
    return "other"


def merge(git: Git, root: Path) -> None:
    git("merge", in_conflict(git, root))


def cherry_pick(git: Git, root: Path) -> None:
    git("cherry-pick", in_conflict(git, root))


def revert(git: Git, root: Path) -> None:
    in_conflict(git, root)
    (root / "notes").write_text("later")
    git("commit", "--quiet", "-m", "later", "notes")
    git("revert", "HEAD~1")


def rebase(git: Git, root: Path) -> None:
    git("rebase", "--autostash", in_conflict(git, root))


def am(git: Git, root: Path) -> None:
    patch = git("format-patch", "-1", "--stdout", in_conflict(git, root))
    (root / "state").mkdir(exist_ok=True)
    (root / "state/patch").write_text(patch)
    git("am", "state/patch")


def bisect(git: Git, root: Path) -> None:
    git("bisect", "start")


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        (merge, "a merge"),
        (cherry_pick, "a cherry-pick"),
        (revert, "a revert"),
        (rebase, "a rebase"),
        (am, "a rebase"),
        (bisect, "a bisection"),
    ],
)
def test_in_the_middle_of_something_nothing_is_committed_and_one_line_says_why(
    workspace: Workspace, git: Git, begin: Callable[[Git, Path], None], what: str
) -> None:
    if begin is bisect:
        begin(git, workspace.root)
    else:
        with pytest.raises(subprocess.CalledProcessError):  # a conflict
            begin(git, workspace.root)
    before = everything(workspace.root, git)
    with pytest.raises(versioning.NotCommitted, match=f"nothing of tiny .* {what} ") as caught:
        versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert "\n" not in str(caught.value)
    assert everything(workspace.root, git) == before


def unborn(git: Git, root: Path) -> None:
    git("switch", "--quiet", "--orphan", "fresh")


def detached(git: Git, root: Path) -> None:
    git("checkout", "--quiet", "--detach")


def two_folders(git: Git, root: Path) -> None:
    git("worktree", "add", "--quiet", "--force", "../second", "main")


def staged_otherwise(git: Git, root: Path) -> None:
    text = (root / LOCK).read_text()
    (root / LOCK).write_text(text + "\n# by hand\n")
    git("add", LOCK)
    (root / LOCK).write_text(text)


def staged_as_deleted(git: Git, root: Path) -> None:
    git("rm", "--quiet", "--cached", TINY)


def popped_in_conflict(git: Git, root: Path) -> None:
    kept = (root / LOCK).read_text()
    git("stash", "--quiet")
    (root / LOCK).write_text("theirs\n")
    git("commit", "--quiet", "-am", "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git("stash", "pop", "--quiet")
    (root / LOCK).write_text(kept)
    (root / TINY).write_text(git("show", f"stash@{{0}}:{TINY}"))


def linked(git: Git, root: Path) -> None:
    (root / LOCK).rename(root / "real.lock")
    (root / LOCK).symlink_to("real.lock")


def newer_exams(git: Git, root: Path) -> None:
    git("checkout", "--quiet", "HEAD", "--", TINY)


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (detached, "HEAD is detached"),
        (two_folders, "in another folder"),
        (staged_otherwise, f"{LOCK} is staged with other content; .*git restore --staged {LOCK}"),
        (staged_as_deleted, f"{TINY} is staged with other content"),
        (popped_in_conflict, LOCK),
        (linked, f"{LOCK} is no plain file"),
        (newer_exams, f"{TINY} is of other exams than {LOCK}"),
    ],
)
def test_where_it_is_not_safe_nothing_is_committed_and_one_line_says_why(
    workspace: Workspace, git: Git, begin: Callable[[Git, Path], None], why: str
) -> None:
    begin(git, workspace.root)
    before = everything(workspace.root, git)
    with pytest.raises(versioning.NotCommitted, match=why):
        versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert everything(workspace.root, git) == before


def test_a_branch_without_a_commit_gets_none(workspace: Workspace, git: Git) -> None:
    git("symbolic-ref", "HEAD", "refs/heads/fresh")
    with pytest.raises(versioning.NotCommitted, match="no commit yet"):
        versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert git("for-each-ref", "refs/heads/fresh") == ""


def test_a_folder_that_git_does_not_keep_is_told(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / ".git")
    with pytest.raises(versioning.NotCommitted, match="not a git repository"):
        versioning.commit_retraining(workspace, "tiny", MESSAGE)


def test_a_second_folder_that_is_gone_is_no_obstacle(workspace: Workspace, git: Git) -> None:
    two_folders(git, workspace.root)
    shutil.rmtree(workspace.root.parent / "second")
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)


def test_a_workspace_that_is_a_linked_folder_commits_on_its_own_branch(
    workspace: Workspace, git: Git
) -> None:
    main = git("rev-parse", "main")
    git("worktree", "add", "--quiet", "-b", "night", "../night")
    other = Workspace(workspace.root.parent / "night")
    for path in (TINY, LOCK):
        shutil.copy(workspace.root / path, other.root / path)
    sha = versioning.commit_retraining(other, "tiny", MESSAGE)
    assert git("rev-parse", "night") == f"{sha}\n"
    assert git("rev-parse", "main") == main
    assert git("-C", "../night", "status", "--porcelain") == f" M {LOCK}\n"


def test_a_workspace_below_the_top_of_a_repository_commits_too(
    workspace: Workspace, tmp_path: Path
) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    inner = Workspace(Path(shutil.copytree(workspace.root, outer / "ward 1")))
    shutil.rmtree(inner.root / ".git")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments],
            cwd=outer,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    git("init", "--quiet")
    (outer / "readme").write_text("")
    git("add", "readme")
    git("commit", "--quiet", "-m", "first")
    assert versioning.commit_retraining(inner, "tiny", MESSAGE)
    names = git("-c", "core.quotePath=false", "show", "--name-only", "--format=", "HEAD")
    assert set(names.splitlines()) == {f"ward 1/{path}" for path in (TINY, LOCK, LIST)}
    others = git("-c", "core.quotePath=false", "diff", "--name-only").splitlines()
    assert set(others) == {f"ward 1/{path}" for path in (LOCK, LIST)}  # of the other dataset


def test_no_hook_runs(workspace: Workspace, git: Git) -> None:
    root = workspace.root
    for hook in ("pre-commit", "commit-msg", "post-commit", "reference-transaction"):
        file = root / ".git/hooks" / hook
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\ntouch '{root}/state/{hook}'\n")
        file.chmod(0o755)
    (root / "state").mkdir(exist_ok=True)
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert versioning.run_commit(workspace, "0" * 32, "a run")
    hooks = {"pre-commit", "commit-msg", "post-commit", "reference-transaction"}
    assert not hooks & {path.name for path in workspace.state.iterdir()}
    git("commit", "--quiet", "--allow-empty", "-m", "by hand")
    assert hooks <= {path.name for path in workspace.state.iterdir()}


def test_settings_of_the_environment_are_added_to(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a container says by them which folders git is to trust."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Berta")
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert git("log", "-1", "--format=%an") == "Berta\n"


def test_nobody_is_named_as_author_who_has_not_named_himself(
    workspace: Workspace, git: Git
) -> None:
    git("config", "--unset", "user.email")
    git("config", "commit.gpgSign", "true")
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)
    said = git("log", "-1", "--format=%an <%ae> %cn <%ce> %G?")
    assert said == "Keyslice <keyslice@localhost> Keyslice <keyslice@localhost> N\n"


def test_an_index_that_a_person_holds_is_waited_for_and_then_left_alone(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = workspace.root / ".git/index.lock"
    held.write_text("of git commit -a, whose editor is open")
    with monkeypatch.context() as hasty:
        hasty.setattr(index, "WAIT_SECONDS", 0.2)
        before = everything(workspace.root, git)
        with pytest.raises(versioning.NotCommitted, match=r"index.lock"):
            versioning.commit_retraining(workspace, "tiny", MESSAGE)
        assert everything(workspace.root, git) == before
    assert held.read_text() == "of git commit -a, whose editor is open"
    threading.Timer(0.5, held.unlink).start()
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)


def test_a_branch_that_cannot_be_moved_leaves_the_index_as_it_was(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branch, "MOVE_SECONDS", 0.2)
    git("rm", "--quiet", "--cached", TINY)
    git("commit", "--quiet", "-m", "without it")
    before = everything(workspace.root, git)
    held = workspace.root / ".git/refs/heads/main.lock"
    held.touch()
    with pytest.raises(versioning.NotCommitted, match=r"main.lock"):
        versioning.commit_retraining(workspace, "tiny", MESSAGE)
    held.unlink()
    assert everything(workspace.root, git) == before


def again(workspace: Workspace, number: int) -> None:
    """As if another training of tiny had ended."""
    text = (workspace.root / LOCK).read_text()
    entry = f"  train@tiny-full:\n    cmd: python stage.py train {number}\n"
    (workspace.root / LOCK).write_text(text.partition("  train@tiny-full")[0] + entry)


def test_a_merge_that_begins_meanwhile_is_seen_before_anything_changes(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = index.exchange

    def later(*arguments: object, **named: object) -> None:
        (workspace.root / ".git/MERGE_HEAD").write_text(git("rev-parse", "HEAD"))
        exchange(*arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(index, "exchange", later)
    before = everything(workspace.root, git)
    with pytest.raises(versioning.NotCommitted, match="a merge"):
        versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert everything(workspace.root, git) == before


def test_what_is_staged_at_the_last_moment_stays_staged(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced, calls = index._replaced, list[bool]()

    def late(*arguments: object) -> bool:
        if not calls:
            (workspace.root / "notes").write_text("staged late")
            git("add", "notes")
        calls.append(replaced(*arguments))  # pyright: ignore[reportArgumentType]
        return calls[-1]

    monkeypatch.setattr(index, "_replaced", late)
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert calls == [False, True]
    assert git("diff", "--cached", "--name-only") == "notes\n"
    assert git("show", ":notes") == "staged late"
    assert files_of(git, str(sha)) == OURS


def test_a_commit_made_between_is_built_upon(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person commits right before the branch would move, once."""
    plumbing, theirs = branch.plumbing, list[str]()

    def late(root: Path, *arguments: str, **named: object) -> str:
        if arguments[0] == "update-ref" and not theirs:
            (root / "notes").write_text("committed meanwhile")
            git("commit", "--quiet", "-m", "theirs", "notes")
            theirs.append(git("rev-parse", "HEAD").strip())
        return plumbing(root, *arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(branch, "plumbing", late)
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert git("rev-parse", "main", "main^").split() == [sha, theirs[0]]
    assert files_of(git, theirs[0]) == {"notes"}
    assert files_of(git, str(sha)) == OURS
    assert git("show", "main:notes") == "committed meanwhile"


def test_no_commit_of_a_person_who_commits_at_the_same_time_is_lost(
    workspace: Workspace, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SETTLED_SECONDS", 0.0)
    root, theirs, over = workspace.root, list[str](), threading.Event()

    def person() -> None:
        while not over.is_set():
            name = f"note-{len(theirs)}"
            (root / name).write_text(name)
            for command in (("add", name), ("commit", "--quiet", "-m", name)):
                while True:  # as a person does whom git tells that another git runs
                    try:
                        git(*command)
                        break
                    except subprocess.CalledProcessError:
                        time.sleep(0.01)
            theirs.append(name)
            time.sleep(0.2)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        for number in range(10):
            again(workspace, number)
            versioning.commit_retraining(workspace, "tiny", f"ours {number}")
            said = git("show", f"HEAD:{LOCK}")
            assert f"train {number}\n" in said  # in a commit of ours, or of theirs
    finally:
        over.set()
        thread.join(60)
    said = git("log", "--format=%s").splitlines()
    assert [line for line in reversed(said) if line.startswith("note-")] == theirs
    assert len(theirs) > 1
    for name in theirs:
        assert git("show", f"HEAD:{name}") == name
    assert any(line.startswith("ours") for line in said)
    for sha in git("log", "--format=%H", "--grep=^ours").split():
        assert files_of(git, sha) <= OURS
    assert git("diff", "--cached") == ""
    assert git("fsck", "--no-dangling") == ""


def killed(workspace: Workspace, at: Callable[[int, str], bool]) -> bool:
    """Commit in a process that is killed by -9 at the first call of git for which `at` holds, told
    by its number and command; whether it came to that."""
    plumbing, number = index.plumbing, 0

    def fatal(root: Path, *arguments: str, **named: object) -> str:
        nonlocal number
        number += 1
        if at(number, arguments[0]):
            killing.die()
        return plumbing(root, *arguments, **named)  # pyright: ignore[reportArgumentType]

    def commit() -> None:
        branch.plumbing = index.plumbing = fatal  # in the fork alone
        versioning.commit_retraining(workspace, "tiny", MESSAGE)

    return killing.killed(commit)


def test_a_kill_between_the_commit_and_its_place_leaves_all_as_it_was(
    workspace: Workspace, git: Git
) -> None:
    work(workspace.root, git)
    before = everything(workspace.root, git)
    commands: list[str] = []

    def built(number: int, command: str) -> bool:
        commands.append(command)
        return "commit-tree" in commands and command != "commit-tree"

    assert killed(workspace, built)
    assert everything(workspace.root, git) == before
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE)


def test_a_kill_before_the_branch_moves_takes_nothing_back(workspace: Workspace, git: Git) -> None:
    work(workspace.root, git)
    before, head = persons(git), git("rev-parse", "HEAD")
    assert killed(workspace, lambda number, command: command == "update-ref")
    assert git("rev-parse", "HEAD") == head
    assert persons(git) == before
    sha = versioning.commit_retraining(workspace, "tiny", MESSAGE)
    assert files_of(git, str(sha)) == OURS
    assert persons(git) == before
    assert git("diff", "--cached", "--", *OURS) == ""


def test_a_kill_at_any_of_its_steps_is_made_good_by_the_next_call(
    workspace: Workspace, git: Git
) -> None:
    work(workspace.root, git)
    before, number = persons(git), 1
    while killed(workspace, functools.partial(lambda last, n, _: n == last, number)):
        assert persons(git) == before
        assert not (workspace.root / ".git/index.lock").exists()
        assert git("fsck", "--no-dangling") == ""
        number += 1
    assert number > 15
    assert files_of(git, "HEAD") == OURS
    assert persons(git) == before
    assert versioning.commit_retraining(workspace, "tiny", MESSAGE) is None

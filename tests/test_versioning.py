import contextvars
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams.lock import dataset_lock
from keyslice.versioning import lock, processes
from keyslice.versioning.git import revision
from keyslice.versioning.lock import followers

TEMPLATE = Path(__file__).parent / "tiny_workspace"


def git(root: Path, *arguments: str) -> str:
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    answer = subprocess.run(
        ["git", *arguments], cwd=root, env=environment, check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A git repository without a commit, and nobody's name configured."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / ".gitignore").write_text("/state/\n")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "state").mkdir()
    (tmp_path / "state/mlflow.db").write_text("")
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def dvc(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A git and DVC workspace whose dataset is recorded and whose preparation has run."""
    root = tmp_path_factory.mktemp("dvc") / "workspace"
    shutil.copytree(TEMPLATE, root)
    (root / "ignored").rename(root / ".gitignore")
    (root / "state").mkdir()
    git(root, "init", "--quiet")
    workspace = Workspace(root)
    workspace.exams("tiny").mkdir(parents=True)
    (workspace.exams("tiny") / "exam.npz").write_text("an exam")
    workspace.manifest("tiny").write_text("its manifest")
    assert versioning.version(workspace, "tiny") is None
    versioning.record_version(workspace, "tiny")
    assert versioning.reproduce(workspace, "prepare@tiny") == "ran"
    return workspace


def files_of(root: Path, commit: str) -> set[str]:
    return set(git(root, "ls-tree", "-r", "--name-only", commit).splitlines())


def test_a_run_commit_works_before_the_first_commit(repository: Workspace) -> None:
    commit = versioning.run_commit(repository, "abc", "a run")
    assert files_of(repository.root, commit) == {".gitignore", "params.yaml"}
    assert git(repository.root, "rev-parse", "refs/keyslice/runs/abc") == commit
    assert git(repository.root, "for-each-ref", "refs/heads") == ""


def test_a_run_commit_holds_the_tree_and_leaves_branch_index_and_files_alone(
    repository: Workspace,
) -> None:
    root = repository.root
    (root / "state/forced").write_text("tracked though ignored")
    git(root, "add", "--force", ".", "state/forced")
    git(root, "commit", "--quiet", "-m", "first")
    (root / "staged").write_text("1")
    git(root, "add", "staged")
    (root / "staged").write_text("2")
    (root / "src").mkdir()
    (root / "src" / "untracked.py").write_text("3")
    (root / "exam.nii.gz").write_text("of a patient")
    (root / "labels.csv").write_text("file,patient_id,label")
    (root / "params.yaml").unlink()
    before = (git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"))
    index = (root / ".git/index").read_bytes()

    commit = versioning.run_commit(repository, "abc", "a run")

    assert (root / ".git/index").read_bytes() == index
    assert (git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD")) == before
    assert git(root, "rev-parse", f"{commit}^") == before[1]
    assert git(root, "show", f"{commit}:staged") == "2"
    assert git(root, "show", f"{commit}:src/untracked.py") == "3"
    found = files_of(root, commit)
    assert not {"exam.nii.gz", "labels.csv"} & set(found)
    assert "params.yaml" not in found
    assert "state/forced" in found


def test_a_run_has_one_commit(repository: Workspace) -> None:
    first = versioning.run_commit(repository, "abc", "a run")
    (repository.root / "params.yaml").write_text("a: 2\n")
    assert versioning.run_commit(repository, "abc", "a run") == first
    assert versioning.run_commit(repository, "def", "another") != first


def test_a_run_commit_is_checked_after_its_tree_was_read_and_before_it_counts(
    repository: Workspace,
) -> None:
    params = repository.root / "params.yaml"

    def later() -> None:
        params.write_text("a: 2\n")

    def refuses() -> None:
        raise UserError("has changed")

    with pytest.raises(UserError):
        versioning.run_commit(repository, "abc", "a run", check=refuses)
    assert git(repository.root, "for-each-ref") == ""
    commit = versioning.run_commit(repository, "abc", "a run", check=later)
    assert git(repository.root, "show", f"{commit}:params.yaml") == "a: 1"
    with pytest.raises(UserError):  # also where the run has its commit
        versioning.run_commit(repository, "abc", "a run", check=refuses)


def test_what_a_person_has_git_ignore_everywhere_is_in_the_run_commit(
    repository: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, root = tmp_path_factory.mktemp("home"), repository.root
    (home / "ignore").write_text("*.lock\n*.dvc\n*.secret\n")
    (home / "config").write_text(f"[core]\n\texcludesFile = {home}/ignore\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "config"))
    for name in ("dvc.lock", "requirements.lock", "data/exams/a.dvc", "src/a.py", "src/a.secret"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1")
    commit = versioning.run_commit(repository, "abc", "a run")
    added = files_of(root, commit) - {".gitignore", "params.yaml"}
    assert added == {"dvc.lock", "requirements.lock", "data/exams/a.dvc", "src/a.py"}


def test_a_folder_that_is_no_repository_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git clone"):
        versioning.run_commit(Workspace(tmp_path), "abc", "a run")


@pytest.fixture
def distrusted(repository: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A repository that belongs to somebody else, as on a shared disk."""
    git(repository.root, "commit", "--quiet", "--allow-empty", "-m", "first")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    return repository


@pytest.mark.parametrize(
    "ask", [versioning.check_repository, lambda it: versioning.run_commit(it, "abc", "a run")]
)
def test_a_repository_that_git_does_not_trust_is_told_in_gits_words(
    distrusted: Workspace, ask: Callable[[Workspace], object]
) -> None:
    with pytest.raises(UserError, match=r"dubious ownership.* --add safe.directory") as caught:
        ask(distrusted)
    assert "git clone" not in str(caught.value)


def test_that_git_fails_is_not_that_there_is_no_commit(distrusted: Workspace) -> None:
    with pytest.raises(UserError, match="dubious ownership"):
        revision(distrusted.root, "HEAD")


def test_a_version_changes_with_the_content(dvc: Workspace) -> None:
    first = versioning.version(dvc, "tiny")
    assert first is not None
    assert first.endswith(".dir")
    assert len(first) <= 36  # what MLflow takes as a digest
    extra = dvc.exams("tiny") / "another.npz"
    extra.write_text("another")
    assert versioning.record_version(dvc, "tiny") != first
    extra.unlink()
    assert versioning.record_version(dvc, "tiny") == first


def test_a_stage_that_is_up_to_date_does_not_run(dvc: Workspace) -> None:
    assert versioning.reproduce(dvc, "prepare@tiny") == "unchanged"


def test_stale_names_the_stages_that_have_not_run(dvc: Workspace) -> None:
    stale = versioning.stale(dvc, ["tiny"])
    assert "train@tiny-das" in stale
    assert "prepare@tiny" not in stale
    assert versioning.stale(dvc, ["tin"]) == []


@pytest.fixture
def training(
    dvc: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """A workspace in which DVC runs train@tiny-full, for as long as the test takes."""
    workspace = Workspace(Path(shutil.copytree(dvc.root, tmp_path / "workspace")))
    monkeypatch.setenv("STAGE_HANGS", "full")
    running = threading.Event()

    def note(line: str) -> None:
        if line == "hanging":
            running.set()

    def train() -> None:
        with suppress(versioning.DVCError):
            versioning.reproduce(workspace, "train@tiny-full", on_line=note)

    with versioning.children():
        thread = threading.Thread(target=contextvars.copy_context().run, args=(train,))
        thread.start()
        assert running.wait(60)
        yield workspace
    thread.join(60)


def test_what_runs_now_and_what_follows_it_is_stale_and_the_rest_is_asked_for(
    training: Workspace,
) -> None:
    stale = versioning.stale(training, ["tiny"])
    assert {"train@tiny-full", "evaluate@tiny-full", "compare@tiny", "train@tiny-das"} <= set(stale)
    assert "prepare@tiny" not in stale


def test_who_blocks_a_stage_is_named(training: Workspace) -> None:
    with pytest.raises(versioning.DVCError, match=r"being blocked by: \(PID \d+\): .*dvc"):
        versioning.reproduce(training, "evaluate@tiny-full")


def test_a_version_waits_for_a_dvc_that_hashes_the_exams(
    dvc: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(Path(shutil.copytree(dvc.root, tmp_path / "workspace")))
    before = versioning.version(workspace, "tiny")
    (workspace.exams("tiny") / "another.npz").write_text("another")
    notes = workspace.root / ".dvc/tmp/rwlock"
    with subprocess.Popen(["sleep", "600"]) as other:

        def end() -> None:
            other.kill()
            other.wait()  # a zombie would go on counting as a reader

        reader = {"pid": other.pid, "cmd": "dvc repro"}
        exams = {str(workspace.exams("tiny")): [reader]}
        notes.write_text(json.dumps({"read": exams, "write": {}}))
        with monkeypatch.context() as hasty:
            hasty.setattr("keyslice.versioning.dvc.BUSY_SECONDS", 0)
            with pytest.raises(versioning.DVCError, match=rf"PID {other.pid}\): dvc repro"):
                versioning.record_version(workspace, "tiny")
        threading.Timer(3, end).start()
        assert versioning.record_version(workspace, "tiny") != before


def test_no_ingestion_comes_between_a_preparation_and_its_entry_in_dvc_lock(
    dvc: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(Path(shutil.copytree(dvc.root, tmp_path / "workspace")))
    (workspace.exams("tiny") / "another.npz").write_text("another")
    held: list[bool] = []

    def attempt() -> None:
        try:
            with dataset_lock(workspace, "tiny", "ingest", patience=0):
                held.append(False)
        except UserError:
            held.append(True)

    def note(line: str) -> None:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    assert versioning.reproduce(workspace, "prepare@tiny", on_line=note) == "ran"
    assert held
    assert all(held)
    attempt()
    assert held[-1] is False


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        ("prepare@a", {"prepare@a", "train@a-x", "train@a-y", "evaluate@a-x", "compare@a"}),
        ("train@a-x", {"train@a-x", "evaluate@a-x", "compare@a"}),
        ("evaluate@a-y", {"compare@a"}),
        ("compare@a", {"compare@a"}),
        ("retrain-a", set()),
    ],
)
def test_the_stages_after_one_are_its_variants_and_the_comparison(
    stage: str, found: set[str]
) -> None:
    others = ["prepare@b", "train@b-x", "compare@b"]
    own = ["prepare@a", "train@a-x", "train@a-y", "evaluate@a-x", "compare@a"]
    assert followers(stage, own + others) == found


def test_the_version_that_was_prepared_is_the_pointers(dvc: Workspace) -> None:
    assert versioning.prepared_version(dvc, "tiny") == versioning.version(dvc, "tiny")
    assert versioning.prepared_version(dvc, "other") is None


CONFLICT = "outs:\n<<<<<<< HEAD\n- md5: a.dir\n=======\n- md5: b.dir\n>>>>>>> other\n"


@pytest.fixture
def pointer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tmp_path's dataset `tiny` has its pointer; a damaged one is soon told."""
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.2)
    file = Workspace(tmp_path).pointer("tiny")
    file.parent.mkdir(parents=True)
    return file


def test_marks_of_a_merge_are_told_with_the_choice(tmp_path: Path, pointer: Path) -> None:
    pointer.write_text(CONFLICT)
    with pytest.raises(UserError, match=r"^data/exams/tiny.dvc: .* git checkout --ours data/exams"):
        versioning.version(Workspace(tmp_path), "tiny")


def test_an_empty_pointer_which_a_killed_dvc_leaves_is_as_none(
    tmp_path: Path, pointer: Path
) -> None:
    pointer.touch()
    assert versioning.version(Workspace(tmp_path), "tiny") is None


@pytest.mark.parametrize("text", ["outs: []\n", "- outs\n", "outs: [\n"])
def test_a_damaged_pointer_is_told_with_the_way_out(
    tmp_path: Path, pointer: Path, text: str
) -> None:
    pointer.write_text(text)
    with pytest.raises(UserError, match=r"^data/exams/tiny.dvc: .* git checkout data/exams"):
        versioning.version(Workspace(tmp_path), "tiny")


@pytest.mark.parametrize("text", ["schema: '2.0'\nstages:\n  prepare@a:\n", "stages: 1", "a: 1"])
def test_a_damaged_dvc_lock_is_no_choice_between_sides(
    tmp_path: Path, pointer: Path, text: str
) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"^dvc.lock: cannot be read; .* or remove it"):
        versioning.prepared_version(Workspace(tmp_path), "a")


class Writer:
    """A clock on which a file grows by a piece with each pause, dated by the same clock."""

    def __init__(self, file: Path, text: str) -> None:
        self.now = 1e9
        self.file = file
        self.pieces = [text[start : start + 40] for start in range(0, len(text), 40)]
        self.sleep(0)

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.pieces:
            with self.file.open("a") as file:
                file.write(self.pieces.pop(0))
            os.utime(self.file, (self.now, self.now))


def test_a_dvc_lock_that_is_being_written_is_read_when_it_is_whole(
    dvc: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, as DVC writes it: some of the first pieces are YAML and lack stages."""
    known = yaml.safe_load((dvc.root / "dvc.lock").read_text())
    entry = known["stages"]["prepare@tiny"]
    known["stages"] = {"prepare@other": entry, "prepare@tiny": entry}
    writer = Writer(tmp_path / "dvc.lock", yaml.safe_dump(known))
    monkeypatch.setattr(lock, "time", writer)
    assert versioning.prepared_version(Workspace(tmp_path), "tiny") is not None
    assert not writer.pieces


def test_the_hash_of_a_stage_is_none_until_all_of_it_has_run(dvc: Workspace) -> None:
    assert versioning.stage_hash(dvc, "prepare@tiny") is not None
    assert versioning.stage_hash(dvc, "prepare@tiny", "compare@tiny") is None
    assert versioning.lock_hash(dvc, "tiny", ["full"]) is None


def test_a_users_mistake_in_a_stage_is_passed_on_in_its_own_words(
    dvc: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE_FAILS", "das")
    with pytest.raises(UserError) as caught:
        versioning.reproduce(dvc, "train@tiny-das")
    assert str(caught.value) == "train.learning_rate: 100 is too high; lower it"


def test_a_crash_of_a_stage_names_stage_reason_and_log(
    dvc: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE_CRASHES", "das")
    with pytest.raises(versioning.StageFailed, match=r"train@tiny-das.*no memory left.*state/logs"):
        versioning.reproduce(dvc, "train@tiny-das")


def test_a_stage_that_dvc_does_not_know_is_dvcs_error(dvc: Workspace) -> None:
    with pytest.raises(versioning.DVCError, match="train@tiny-none"):
        versioning.reproduce(dvc, "train@tiny-none")


# A parent that starts a child which ignores the request to end, as a stage's workers might.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_leaving_by_an_exception_ends_the_whole_group(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        versioning.run([sys.executable, "-c", FAMILY], cwd=tmp_path, on_line=interrupt)
    assert gone(pids[0])


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_whole_group(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        versioning.run([sys.executable, "-c", FAMILY], cwd=tmp_path, on_line=interrupt)
    assert gone(pids[0])


def test_what_a_child_leaves_is_ended_with_it_and_its_last_words_are_heard(tmp_path: Path) -> None:
    """As where `keyslice serve` is killed, and its run would hold its output for hours."""
    leader = FAMILY.rpartition("time.sleep")[0] + "print('x' * 100_000)\nos.kill(os.getpid(), 9)"
    ended = versioning.run([sys.executable, "-c", f"import os{leader}"], cwd=tmp_path)
    assert ended.code == -signal.SIGKILL
    assert gone(int(ended.lines[0]))
    assert ended.lines[1] == "x" * 100_000


def test_leaving_the_block_ends_children_of_other_threads_and_starts_none(tmp_path: Path) -> None:
    pids: list[int] = []
    running = threading.Event()

    def note(line: str) -> None:
        pids.append(int(line))
        running.set()

    with versioning.children():
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=lambda: context.run(
                versioning.run, [sys.executable, "-c", FAMILY], cwd=tmp_path, on_line=note
            )
        )
        thread.start()
        assert running.wait(60)
    thread.join(60)
    assert not thread.is_alive()
    assert gone(pids[0])
    with pytest.raises(versioning.ChildrenEndedError):
        context.copy().run(versioning.run, ["true"], cwd=tmp_path)


# One that does not hear the request.
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("ctrl_c")
def test_whoever_asks_twice_has_all_of_them_ended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 600.0)
    pids: list[int] = []
    started = threading.Barrier(3)
    threads: list[threading.Thread] = []

    def note(line: str) -> None:
        pids.append(int(line))
        started.wait(60)

    def child() -> None:
        versioning.run([sys.executable, "-c", DEAF], cwd=tmp_path, on_line=note)

    def left() -> None:
        with versioning.children():
            for _ in range(2):
                context = contextvars.copy_context()
                threads.append(threading.Thread(target=context.run, args=(child,), daemon=True))
                threads[-1].start()
            started.wait(60)
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        left()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert all(map(gone, pids))


def test_what_a_killed_owner_left_running_is_ended(tmp_path: Path) -> None:
    owner = (
        "import sys; from pathlib import Path; from keyslice import versioning; "
        "versioning.run([sys.executable, '-c', sys.argv[1]], cwd=Path(sys.argv[2]), on_line=print)"
    )
    command = [sys.executable, "-u", "-c", owner, FAMILY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert versioning.end_orphans(tmp_path) == 0  # its owner lives
        process.kill()
        process.wait()
    assert not gone(pid)
    assert versioning.end_orphans(tmp_path) == 1
    assert gone(pid)
    assert versioning.end_orphans(tmp_path) == 0


@pytest.mark.parametrize("name", [".7-0a1b2c3d.json", "7.json"])
def test_half_a_note_of_a_child_stops_no_recovery(tmp_path: Path, name: str) -> None:
    note = tmp_path / processes.CHILDREN / name
    note.parent.mkdir(parents=True)
    note.write_text('{"child": {"pi')
    assert versioning.end_orphans(tmp_path) == 0


def test_a_child_that_cannot_be_noted_does_not_go_on_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []

    def full(note: Path, process: "subprocess.Popen[str]") -> None:
        started.append(process)
        raise OSError("no space left on device")

    monkeypatch.setattr(processes, "_write_note", full)
    with pytest.raises(OSError, match="no space left"):
        versioning.run([sys.executable, "-c", FAMILY], cwd=tmp_path)
    assert gone(started[0].pid)


def test_dvcs_notes_are_left_alone_while_dvc_edits_them(dead_lock: Path) -> None:
    workspace, before = Workspace(dead_lock.parents[2]), dead_lock.read_text()
    guard = dead_lock.with_name("rwlock.lock")
    hold = (
        "import sys, zc.lockfile; held = zc.lockfile.LockFile(sys.argv[1]); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(guard)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert not versioning.recover(workspace)
        assert dead_lock.read_text() == before
        other.communicate()
    assert versioning.recover(workspace)


@pytest.fixture
def dead_lock(tmp_path: Path) -> Path:
    """DVC's notes, one of a process that has ended, and the lock that guards them."""
    file = tmp_path / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(parents=True)
    file.with_name("rwlock.lock").touch()
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    file.write_text(json.dumps({"write": {"a": {"pid": ended.pid, "cmd": "dvc"}}, "read": {}}))
    return file


def test_the_locks_of_the_dead_are_lifted_and_those_of_the_living_kept(dead_lock: Path) -> None:
    workspace = Workspace(dead_lock.parents[2])
    [dead] = json.loads(dead_lock.read_text())["write"].values()
    living = {"pid": os.getpid(), "cmd": "dvc"}
    noted = {"write": {"a": dead, "b": living}, "read": {"c": [dead], "d": [dead, living]}}
    dead_lock.write_text(json.dumps(noted))
    assert versioning.recover(workspace)
    left = {"write": {"b": living}, "read": {"d": [living]}}
    assert json.loads(dead_lock.read_text()) == left
    assert not versioning.recover(workspace)
    dead_lock.write_text('{"write": {"a"')
    assert versioning.recover(workspace)
    assert not dead_lock.exists()


def test_what_a_killed_run_had_begun_is_done_by_the_next(
    dvc: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with -9 while a stage runs under DVC, as a retraining might be."""
    workspace = Workspace(Path(shutil.copytree(dvc.root, tmp_path / "workspace")))
    owner = (
        "import sys; from pathlib import Path; from keyslice import versioning; "
        "from keyslice.config import Workspace; "
        "versioning.reproduce(Workspace(Path(sys.argv[1])), 'train@tiny-full', on_line=print)"
    )
    monkeypatch.setenv("STAGE_HANGS", "full")
    command = [sys.executable, "-u", "-c", owner, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "hanging\n" for line in process.stdout)
        process.kill()
    left = list(map(int, (workspace.state / "hanging").read_text().split()))
    assert not any(map(gone, left))
    assert versioning.recover(workspace)
    assert all(map(gone, left))
    monkeypatch.delenv("STAGE_HANGS")
    assert versioning.reproduce(workspace, "train@tiny-full") == "ran"


@pytest.mark.parametrize(
    ("script", "code", "times"),
    [
        ('test "$(wc -l < asked)" -lt 3 && kill -9 $$; echo answer', 0, 3),
        ("kill -9 $$", -signal.SIGKILL, 3),
        ("exit 3", 3, 1),
    ],
)
def test_a_question_that_somebody_kills_is_asked_again(
    tmp_path: Path, script: str, code: int, times: int
) -> None:
    found = processes.ask(("sh", "-c", f"echo x >> asked; {script}"), cwd=tmp_path)
    assert found == processes.Finished(code, ("answer",) if code == 0 else ())
    assert (tmp_path / "asked").read_text() == "x\n" * times


def test_who_killed_dvc_each_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "DVC", ("sh", "-c", "kill -9 $$"))
    with pytest.raises(versioning.DVCError, match=r"^dvc status: was ended by signal 9$"):
        versioning.dvc.call(Workspace(tmp_path), "--wait-for-lock", "status")


def test_children_find_this_environments_commands_and_phone_nobody(tmp_path: Path) -> None:
    code = "import os, shutil; print(shutil.which('dvc')); print(os.environ['DVC_NO_ANALYTICS'])"
    found = versioning.run([sys.executable, "-c", code], cwd=tmp_path).lines
    assert found == (str(Path(sys.executable).parent / "dvc"), "1")


def test_output_goes_to_the_log_as_it_comes(tmp_path: Path) -> None:
    log = tmp_path / "logs/a.log"
    seen: list[str] = []

    def note(line: str) -> None:
        seen.append(log.read_text())

    code = "print('one', flush=True); print('two', flush=True)"
    versioning.run([sys.executable, "-c", code], cwd=tmp_path, log=log, on_line=note)
    assert seen[0].startswith("one\n")
    assert log.read_text() == "one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_is_no_reason_to_end_the_child(tmp_path: Path) -> None:
    code = "print('one', flush=True); print('two', flush=True)"
    command = [sys.executable, "-c", code]
    finished = versioning.run(command, cwd=tmp_path, log=Path("/dev/full"))
    assert (finished.code, finished.lines) == (0, ("one", "two"))


def test_a_log_keeps_earlier_runs_and_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 100)
    log = tmp_path / "logs/a.log"
    for number in range(40):
        versioning.run(["echo", f"run {number:02d} ü"], cwd=tmp_path, log=log)
    lines = log.read_text().splitlines()
    assert lines == [f"run {number:02d} ü" for number in range(40 - len(lines), 40)]
    assert 5 < len(lines) < 15


def test_a_log_does_not_grow_for_ever_while_its_child_runs_and_another_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 100)
    log, sizes = tmp_path / "a.log", list[int]()

    def look(line: str) -> None:
        sizes.append(log.stat().st_size)
        if line == "line 98":
            versioning.run(["echo", "another"], cwd=tmp_path, log=log)

    code = "for number in range(100): print(f'line {number:02d}', flush=True)"
    versioning.run([sys.executable, "-c", code], cwd=tmp_path, log=log, on_line=look)
    lines = log.read_text().splitlines()
    assert lines[-2:] == ["another", "line 99"]
    assert lines[:-2] == [f"line {number:02d}" for number in range(101 - len(lines), 99)]
    assert 100 < max(sizes) <= 200

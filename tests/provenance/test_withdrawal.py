"""A patient withdraws from a dataset of two versions, with a remote: nothing of theirs is left."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from keyslice import files, versioning
from keyslice.config import Params, Workspace, load
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.exams import barred, checks, known, manifest
from keyslice.exams.container import TOMBSTONE
from keyslice.exams.exam import exam_path
from keyslice.exams.lock import locked
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from keyslice.ingest import ingest_dataset
from keyslice.prepared import PreparedStore
from keyslice.provenance import erasure, events, ledger, patients, withdrawal, withdrawn
from keyslice.provenance.reproduction import REPRODUCTION
from keyslice.provenance.withdrawal import Done
from keyslice.stages.prepare import prepare
from keyslice.versioning import objects
from tests.scans import enter

pytestmark = pytest.mark.forked_dvc

WHO = "003"
"""The patient who withdraws: two exams in the first version, one more in the second."""
THEIRS = pseudonym(PUBLISHED_KEY, "", WHO)
DATASET = {"source": "folder", "identifiers": "public", "classes": ["no", "yes"], "settle": 0}
PARAMS = {
    "datasets": {"ward": DATASET},
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    **{section: {} for section in ("backbone", "model", "train", "evaluate")},
    "prepare": {"image_size": 8},
    "compare": {"references": ["full"]},
}
IGNORED = "/data/inbox/\n/data/quarantine/\n/data/exams/?*/\n/state/\n"
CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")


def deliver(inbox: Path, exams: dict[str, str]) -> None:
    """Arrays, by name, of these patients, into the inbox and its table."""
    inbox.mkdir(parents=True, exist_ok=True)
    for name in exams:
        rng = np.random.default_rng(int(name))
        np.savez(inbox / f"{name}.npz", frames=rng.integers(0, 255, (5, 12, 10), np.uint8))
    rows = [(f"{name}.npz", who, ("no", "yes")[int(who) % 2]) for name, who in exams.items()]
    enter(inbox, ("file", "patient_id", "label"), rows)


def run(root: Path, *command: str) -> str:
    told = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "DVC_NO_ANALYTICS": "1"}
    told |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "LC_ALL": "C"}
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else [*command]
    answer = subprocess.run(
        words, cwd=root, env=os.environ | told, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def make_version(workspace: Workspace, params: Params, message: str) -> str:
    """Ingest, prepare, predict and report; recorded and pushed as stages' results are."""
    version = ingest_dataset(workspace, params, "ward").version
    prepare(workspace, params, "ward")
    index = PreparedStore.open(workspace.prepared("ward")).table
    rows = [
        {
            "exam_id": row.exam_id,
            "patient": row.patient,
            "split": "test",
            "label": 0,
            "seed": 0,
            "probabilities": [0.25, 0.75],
            "frames": 5,
            "kept": [0, 1],
            "attention": [0.5, 0.5],
            "macs": 1.0,
            "plain_probabilities": [0.5, 0.5],
            "plain_macs": 0.5,
            "informative": None,
        }
        for row in index.itertuples()
    ]
    place = workspace.results("ward", "full")
    place.mkdir(parents=True, exist_ok=True)
    predictions.write(pd.DataFrame(rows), place / "predictions.parquet")
    report = workspace.comparison("ward")
    (report / "figures").mkdir(parents=True, exist_ok=True)
    (report / "candidate.json").write_text('{"dataset": "ward"}')
    (report / "comparison.csv").write_text("variant\nfull\n")
    (report / "report.html").write_text(f"version {version[:12]}, pixels of {WHO}")
    (report / "figures" / "exam_maps.svg").write_text(f"lines of exams {version}")
    results = "data/results/ward/full/predictions.parquet"
    run(workspace.root, "dvc", "add", "-q", "data/prepared/ward", "data/comparisons/ward", results)
    run(workspace.root, "git", "add", "--all")
    run(workspace.root, "git", "commit", "-q", "-m", message)
    run(workspace.root, "git", "tag", message)
    run(workspace.root, "dvc", "push", "-q")
    return version


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `workspace` and `remote`."""
    home = tmp_path_factory.mktemp("before")
    root = home / "workspace"
    root.mkdir()
    (home / "remote").mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / ".gitignore").write_text(IGNORED)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "config", "core.analytics", "false")
    run(root, "dvc", "remote", "add", "-d", "store", "../remote")
    workspace, params = Workspace(root), load(root / "params.yaml")
    deliver(workspace.inbox("ward"), {f"{n}": f"{n:03}" for n in range(10)} | {"10": WHO})
    first = make_version(workspace, params, "first")
    deliver(workspace.inbox("ward"), {"11": WHO, "12": "011"})
    second = make_version(workspace, params, "second")
    for number, version in enumerate((first, second), 1):
        registered = {"model": "ward", "version": number, "dataset_version": version}
        ledger.append(workspace, events.MODEL_REGISTERED, f"ward/{number}", registered)
    moved = {"model": "ward", "from": None, "to": 2, "because": "promotion", "decision": None}
    ledger.append(workspace, events.CHAMPION_MOVED, "ward", moved)
    (workspace.state / "checkpoints" / "ward").mkdir(parents=True)
    shown = workspace.states("ward", "full") / "train"  # of an evaluation that was killed
    shown.mkdir(parents=True)
    (shown / "0.npy").write_bytes(f"what frames of {WHO} show".encode())
    (workspace.sweep("ward", "full") / "seed-0").mkdir(parents=True)
    return home


@pytest.fixture
def workspace(before: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(before, tmp_path / "home", symlinks=True)
    return Workspace(tmp_path / "home" / "workspace")


@pytest.fixture
def asked(workspace: Workspace) -> dict[str, str]:
    return patients.person(workspace, load(workspace.params), patient=WHO).patients


@pytest.fixture(scope="module")
def original(before: Path) -> dict[str, bytes]:
    """The stored file of each exam of the second version."""
    home = Workspace(before / "workspace").exams("ward")
    return {path.stem: path.read_bytes() for path in home.glob("*.zip")}


@pytest.fixture(scope="module")
def theirs(before: Path) -> set[str]:
    table = manifest.read(Workspace(before / "workspace").manifest("ward"))
    return set(table["exam_id"][table["patient"] == THEIRS])


def check_nothing_is_left(
    home: Path, words: dict[str, bytes], contents: Callable[[Path], bytes]
) -> None:
    """Whatever lies in the workspace and the remote, the inbox and the list of barred aside."""
    for path in home.rglob("*"):
        if not path.is_file() or {"inbox", "barred"} & {*path.parts}:
            continue
        whole = contents(path)
        for what, word in words.items():
            assert word not in whole, f"{what} in {path}"


@pytest.fixture
def words(original: dict[str, bytes], theirs: set[str], before: Path) -> dict[str, bytes]:
    """What must not be found any more: pseudonym, stored bytes, frames, prepared pixels, report."""
    workspace = Workspace(before / "workspace")
    found = {"the pseudonym": THEIRS.encode(), "the report": f"pixels of {WHO}".encode()}
    found["what states show"] = f"what frames of {WHO} show".encode()
    for exam in theirs:
        found[f"the file of {exam}"] = original[exam][-500:-200]
    store = PreparedStore.open(workspace.prepared("ward"))
    for row, exam in enumerate(store.table["exam_id"]):
        if exam in theirs:
            found[f"the pixels of {exam}"] = store.frames(row)[0].tobytes()
    return found


def test_what_must_not_be_left_is_there_before(
    before: Path, words: dict[str, bytes], contents: Callable[[Path], bytes]
) -> None:
    for what, word in words.items():
        assert any(word in contents(p) for p in before.rglob("*") if p.is_file()), what


def test_a_plan_tells_what_is_touched_and_changes_nothing(
    workspace: Workspace, asked: dict[str, str], theirs: set[str]
) -> None:
    def state() -> dict[str, bytes]:
        files = (path for path in workspace.root.parent.rglob("*") if path.is_file())
        return {
            str(path): path.read_bytes()
            for path in files
            if ".dvc/tmp" not in str(path) and "state/children" not in str(path)
        }

    before = state()
    found = withdrawal.plan(workspace, asked, "asked for")
    [part] = found.parts
    assert set(part.exams) == theirs
    assert sorted(part.versions.values()) == [2, 3]
    assert part.present
    assert (part.models, part.champion) == ((1, 2), 2)
    assert found.counts() == {
        "exam": 3,
        "index": 2,
        "manifest": 2,
        "predictions": 2,
        "record": 2,
        "report": 4,
        "shard": 2,
    }
    assert found.places["cache"] == found.places["store"] == 17
    assert state() == before


@pytest.fixture(scope="module")
def after(before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Done]:
    """The same, withdrawn from; each test that changes anything takes a copy."""
    home = Path(shutil.copytree(before, tmp_path_factory.mktemp("after") / "home"))
    workspace = Workspace(home / "workspace")
    asked = patients.person(workspace, load(workspace.params), patient=WHO).patients
    return workspace, withdrawal.withdraw(workspace, asked, "asked for")


@pytest.fixture
def withdrawn_from(after: tuple[Workspace, Done], tmp_path: Path) -> Workspace:
    shutil.copytree(after[0].root.parent, tmp_path / "after", symlinks=True)
    return Workspace(tmp_path / "after" / "workspace")


def test_after_a_withdrawal_nothing_of_theirs_is_left_anywhere(
    after: tuple[Workspace, Done],
    theirs: set[str],
    words: dict[str, bytes],
    original: dict[str, bytes],
    contents: Callable[[Path], bytes],
) -> None:
    workspace, done = after
    check_nothing_is_left(workspace.root.parent, words, contents)
    assert not withdrawn.notes(workspace)
    table = manifest.read(workspace.manifest("ward"))
    assert THEIRS not in set(table["patient"])
    assert len(table) == 10
    assert {path.stem for path in workspace.exams("ward").glob("*.zip")} == original.keys() - theirs
    now = versioning.version(workspace, "ward")
    assert done.versions == {"ward": now}
    kept = workspace.kept_manifest("ward", now or "")
    assert kept.read_bytes() == workspace.manifest("ward").read_bytes()
    last = [e for e in ledger.read(workspace) if e.action == events.DATASET_VERSIONED][-1]
    assert (last.payload["version"], last.payload["exams"]) == (now, 10)
    assert not (workspace.state / "checkpoints" / "ward").exists()
    assert not (workspace.state / "states" / "ward").exists()
    assert not (workspace.state / "sweeps" / "ward").exists()
    listed = barred.path(workspace, "ward")
    assert listed.stat().st_mode & 0o777 == 0o600
    assert barred.read(workspace, "ward") == barred.Barred(frozenset([THEIRS]), frozenset(theirs))


def test_the_ledger_keeps_that_it_happened_and_not_who(
    after: tuple[Workspace, Done], theirs: set[str], before: Path
) -> None:
    workspace, _ = after
    there = Workspace(before / "workspace")
    old = versioning.version(there, "ward") or ""
    was = manifest.version_hash(there.manifest("ward"))
    known_events = ledger.read(workspace)
    begun, completed = (
        next(e for e in known_events if e.action == action)
        for action in (events.WITHDRAWAL_BEGUN, events.WITHDRAWAL_COMPLETED)
    )
    assert completed.payload["begun"] == begun.number
    assert (begun.payload["exams"], begun.payload["models"]) == (3, [1, 2])
    assert begun.payload["champion"] is True
    assert begun.payload["erased"] == completed.payload["erased"]
    assert completed.payload["barred"] == barred.digest(workspace, "ward")
    text = ledger.path(workspace).read_text()
    assert not any(word in text for word in {THEIRS, *theirs})
    # What verification asks.
    assert withdrawn.exams_withdrawn(known_events, "ward", old) == 3
    assert withdrawn.models_affected(known_events) == {("ward", 1): 2, ("ward", 2): 3}
    now = withdrawn.successor(known_events, was)
    assert now == manifest.version_hash(workspace.kept_manifest("ward", old))
    assert now != was


def test_each_object_is_what_its_md5_says_or_what_a_withdrawal_left(
    after: tuple[Workspace, Done],
) -> None:
    workspace, _ = after
    replaced = withdrawn.replacements(ledger.read(workspace))
    erased = 0
    for place in (workspace.root / ".dvc" / "cache", workspace.root.parent / "remote"):
        for md5, path in objects.Store("any", place).all():
            allowed = replaced.get(md5, "")
            assert md5.startswith(files.md5(path)) == (not allowed), path
            assert not allowed or erasure.digest([path.read_bytes()]) in allowed
            erased += bool(allowed)
    assert erased == 34


def check_old_version(
    workspace: Workspace, original: dict[str, bytes], theirs: set[str], before: Path
) -> None:
    """All others are there bit for bit, theirs are tombstones, and DVC finds nothing wrong."""
    assert "up to date" in run(workspace.root, "dvc", "status")
    stored = {path.stem: path.read_bytes() for path in workspace.exams("ward").glob("*.zip")}
    assert stored == {e: TOMBSTONE if e in theirs else original[e] for e in original}
    table = manifest.read(workspace.manifest("ward"))
    assert set(table["exam_id"]) == original.keys() - theirs
    whole = PreparedStore.open(Workspace(before / "workspace").prepared("ward"))
    left = PreparedStore.open(workspace.prepared("ward"))
    rows = {exam: row for row, exam in enumerate(whole.table["exam_id"])}
    assert set(left.table["exam_id"]) == original.keys() - theirs
    for row, exam in enumerate(left.table["exam_id"]):
        assert (left.frames(row) == whole.frames(rows[exam])).all()
    predicted = predictions.read(workspace.results("ward", "full") / "predictions.parquet")
    assert set(predicted["exam_id"]) == original.keys() - theirs
    assert (workspace.comparison("ward") / "comparison.csv").read_text() == "variant\nfull\n"
    assert (workspace.comparison("ward") / "report.html").read_bytes() == TOMBSTONE


def test_an_old_version_comes_back_without_them_here_and_in_a_clone(
    withdrawn_from: Workspace,
    original: dict[str, bytes],
    theirs: set[str],
    before: Path,
) -> None:
    workspace = withdrawn_from
    run(workspace.root, "git", "commit", "-q", "-a", "-m", "without")
    run(workspace.root, "git", "checkout", "-q", "second")
    run(workspace.root, "dvc", "checkout", "-q")
    check_old_version(workspace, original, theirs, before)

    # Readers take tombstones for what they are.
    params = load(workspace.params)
    told = {finding.check: finding for finding in checks.run(workspace, params, "ward")}
    assert "strange_files" not in told
    assert told["erased"].level == "note"
    prepare(workspace, params, "ward")
    store = PreparedStore.open(workspace.prepared("ward"))
    assert set(store.table["exam_id"]) == original.keys() - theirs
    with pytest.raises(UserError, match="its patient has withdrawn"):
        known.find(workspace, ["ward"], min(theirs))

    home = workspace.root.parent
    run(home, "git", "clone", "-q", str(workspace.root), "clone")
    clone = Workspace(home / "clone")
    run(clone.root, "dvc", "pull", "-q")
    check_old_version(clone, original, theirs, before)


def test_the_next_ingestion_finds_nothing_new(
    withdrawn_from: Workspace, after: tuple[Workspace, Done]
) -> None:
    workspace, (_, done) = withdrawn_from, after
    again = ingest_dataset(workspace, load(workspace.params), "ward")
    assert again.report.shut == ("10.npz", "11.npz", "3.npz")
    assert again.version == done.versions["ward"]


def test_a_list_of_who_has_withdrawn_that_was_emptied_lets_nobody_in(
    withdrawn_from: Workspace,
) -> None:
    known = ledger.read(withdrawn_from)
    assert withdrawn.barred_as_told(known, withdrawn_from, "ward")
    barred.path(withdrawn_from, "ward").unlink()
    assert not withdrawn.barred_as_told(known, withdrawn_from, "ward")
    with pytest.raises(UserError, match="not the list of who has withdrawn that the ledger tells"):
        ingest_dataset(withdrawn_from, load(withdrawn_from.params), "ward")


def test_a_note_of_a_withdrawal_that_is_none_is_told_of(workspace: Workspace) -> None:
    note = workspace.state / "withdrawals" / "x.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("{}")
    with pytest.raises(UserError, match=r"state/withdrawals/x\.json: is no note of a withdrawal"):
        withdrawal.resume(workspace)


def test_an_id_may_stand_between_blanks_and_is_not_empty(
    workspace: Workspace, asked: dict[str, str]
) -> None:
    params = load(workspace.params)
    assert patients.person(workspace, params, patient=f" {WHO}\n").patients == asked
    with pytest.raises(UserError, match="--patient: is empty"):
        patients.person(workspace, params, patient=" ")


def test_nothing_is_erased_while_a_model_is_rebuilt_from_it(
    workspace: Workspace, asked: dict[str, str]
) -> None:
    with ThreadPoolExecutor(1) as other, ExitStack() as held:
        lock = locked(workspace, REPRODUCTION, "keyslice reproduce")
        other.submit(held.enter_context, lock).result()
        with pytest.raises(UserError, match="reproduction is still in use by `keyslice reprod"):
            withdrawal.withdraw(workspace, asked, "asked for")
        other.submit(held.close).result()
    assert not barred.read(workspace, "ward").patients


def test_a_remote_that_is_away_stops_a_withdrawal_before_anything_changes(
    workspace: Workspace, asked: dict[str, str]
) -> None:
    remote = workspace.root.parent / "remote"
    remote.rename(remote.with_name("away"))
    with pytest.raises(UserError, match="mount it"):
        withdrawal.withdraw(workspace, asked, "asked for")
    assert not withdrawn.notes(workspace)
    assert not barred.path(workspace, "ward").exists()


@CHAOS
def test_an_exam_that_another_dataset_needs_stays_where_the_withdrawal_is_restricted(
    workspace: Workspace, asked: dict[str, str], theirs: set[str]
) -> None:
    settings = PARAMS | {"datasets": {"ward": DATASET, "clinic": DATASET}}
    workspace.params.write_text(yaml.safe_dump(settings))
    shutil.copytree(workspace.inbox("ward"), workspace.inbox("clinic"))
    params = load(workspace.params)
    ingest_dataset(workspace, params, "clinic")
    withdrawal.withdraw(workspace, asked, "of the ward alone", only="ward")
    kept = {path.stem for path in workspace.exams("clinic").glob("*.zip")}
    assert theirs < kept
    shutil.rmtree(workspace.exams("clinic"))
    run(workspace.root, "dvc", "checkout", "-q", "data/exams/clinic.dvc")
    for exam in theirs:
        assert exam_path(workspace.exams("clinic"), exam).read_bytes() != TOMBSTONE
    assert THEIRS in set(manifest.read(workspace.manifest("clinic"))["patient"])
    assert THEIRS not in set(manifest.read(workspace.manifest("ward"))["patient"])


@CHAOS
def test_a_remote_of_another_kind_is_erased_through_dvcs_own_file_systems(
    workspace: Workspace,
    asked: dict[str, str],
    words: dict[str, bytes],
    contents: Callable[[Path], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects, "_folder", lambda url: None)
    withdrawal.withdraw(workspace, asked, "asked for")
    check_nothing_is_left(workspace.root.parent / "remote", words, contents)


KILLER = """
import os, signal, sys
from pathlib import Path
from keyslice.config import Workspace
from keyslice.provenance import withdrawal

root, patient, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def counted(act):
    def wrapped(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **named)
    return wrapped

Path.replace, Path.unlink, os.fsync = map(counted, (Path.replace, Path.unlink, os.fsync))
withdrawal.withdraw(Workspace(root), {"ward": patient}, "asked for")
"""
"""Ends itself at the N-th time that it flushes, renames or removes a file."""


def killed_at(workspace: Workspace, number: int) -> bool:
    """Whether it came to that; else it ended before."""
    command = [sys.executable, "-c", KILLER, str(workspace.root), THEIRS, str(number)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


def check_complete(
    workspace: Workspace, words: dict[str, bytes], contents: Callable[[Path], bytes]
) -> None:
    check_nothing_is_left(workspace.root.parent, words, contents)
    actions = [event.action for event in ledger.read(workspace)]
    assert actions.count(events.WITHDRAWAL_BEGUN) == 1
    assert actions.count(events.WITHDRAWAL_COMPLETED) == 1
    table = manifest.read(workspace.manifest("ward"))
    assert THEIRS not in set(table["patient"])
    version = versioning.version(workspace, "ward")
    [recorded] = yaml.safe_load(workspace.pointer("ward").read_text())["outs"]
    assert recorded["nfiles"] == len(table) + 1
    last = [e for e in ledger.read(workspace) if e.action == events.DATASET_VERSIONED][-1]
    assert last.payload["version"] == version
    assert withdrawn.models_affected(ledger.read(workspace)) == {("ward", 1): 2, ("ward", 2): 3}
    assert not withdrawn.notes(workspace)


MOMENTS = [60, *(pytest.param(number, marks=CHAOS) for number in range(1, 260, 5))]


@pytest.mark.parametrize("number", MOMENTS)
def test_a_withdrawal_that_was_killed_is_completed_by_the_next_command(
    workspace: Workspace,
    number: int,
    words: dict[str, bytes],
    contents: Callable[[Path], bytes],
) -> None:
    if killed_at(workspace, number):
        if (number // 2) % 2 or not withdrawn.notes(workspace):
            withdrawal.withdraw(workspace, {"ward": THEIRS}, "asked for")
        else:
            assert len(withdrawal.resume(workspace)) == 1
    else:
        assert number > 60, "it ended before that moment"
    check_complete(workspace, words, contents)
    assert withdrawal.resume(workspace) == []
    assert withdrawal.withdraw(workspace, {"ward": THEIRS}, "again").plan.empty
    assert ledger.read(workspace)[-1].payload["reason"] == "asked for"

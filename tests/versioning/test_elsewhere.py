"""A stage that runs in another folder: it ends as if it had run in the workspace."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.stages.running import alive, identity
from keyslice.versioning import elsewhere, lock, objects, places

pytestmark = pytest.mark.forked_dvc

OWN = "0123abcd"
"""This installation's id."""
DATASET, STAGES = "ward", ("train@ward-das", "evaluate@ward-das")


@pytest.fixture
def remote(workspace: Workspace, tmp_path: Path) -> str:
    """The name of a remote that is a folder."""
    (tmp_path / "store").mkdir()
    command = [sys.executable, "-m", "dvc", "remote", "add", "store", str(tmp_path / "store")]
    assert versioning.run(command, cwd=workspace.root).code == 0
    return "store"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "worker"


def locked(workspace: Workspace) -> dict[str, dict]:
    return {name: lock.entries(workspace)[name] for name in STAGES}


def status(workspace: Workspace) -> set[str]:
    return set(versioning.stale(workspace, [DATASET])) & set(STAGES)


@contextmanager
def untouched(workspace: Workspace) -> Iterator[None]:
    """The model that there is, or is not, stays, and no training is begun."""

    def found() -> object:
        model, log = workspace.models(DATASET, "das"), workspace.state / f"logs/{STAGES[0]}.log"
        inodes = {path: path.stat().st_ino for path in sorted(model.rglob("*"))}
        return inodes, log.read_text(), lock.entries(workspace)

    before = found()
    yield
    assert found() == before


def test_both_stages_of_a_variant_come_back_bit_for_bit_and_nothing_private_went(
    workspace: Workspace, remote: str, base: Path, tmp_path: Path
) -> None:
    here = Workspace(Path(shutil.copytree(workspace.root, tmp_path / "here", symlinks=True)))
    for stage in STAGES:
        versioning.reproduce(here, stage)
    (workspace.state / "key").parent.mkdir(exist_ok=True)
    (workspace.state / "key").write_text("secret")

    parcel = elsewhere.pack(workspace, OWN, DATASET, remote)
    trained = elsewhere.carry_out(parcel, STAGES[0], base)
    evaluated = elsewhere.carry_out(parcel, STAGES[1], base, before=[trained])
    assert [path.name for path in base.iterdir()] == [OWN]
    used = [path for path in (base / OWN).iterdir() if path.is_dir() and path.name != "cache"]
    assert len(used) == 1  # the second one found it free
    names = {p.relative_to(used[0]).as_posix() for p in used[0].rglob("*") if p.is_file()}
    assert "state/key" not in names
    assert not any(name.startswith("data/exams/ward/") for name in names)
    assert not (workspace.models(DATASET, "das")).exists()

    elsewhere.take_in(workspace, [trained, evaluated], remote)
    assert locked(workspace) == locked(here)
    assert not status(workspace)
    for folder in (Workspace.models, Workspace.results):
        theirs, ours = folder(here, DATASET, "das"), folder(workspace, DATASET, "das")
        files = sorted(p.relative_to(theirs) for p in theirs.rglob("*") if p.is_file())
        assert files
        for name in files:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()

    places.clear(base / OWN)
    left = [path.name for path in base.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_what_a_network_learned_to_look_more_than_once_comes_back_with_its_results(
    workspace: Workspace, remote: str, base: Path
) -> None:
    values = yaml.safe_load(workspace.params.read_text())
    values["evaluate"] = {"test_time": {"budget": 4, "aggregation": "learned"}}
    workspace.params.write_text(yaml.safe_dump(values))
    graph = workspace.root / "dvc.yaml"
    whole = '"data/results/${item.dataset}/${item.variant}"]'
    place, text = whole[1:-2], graph.read_text()
    assert f"outs: [{whole}" in text
    names = ("predictions.parquet", "test_time", "confusion.json", "metrics.json")
    outs = ", ".join(f'"{place}/{name}"' for name in names)
    graph.write_text(text.replace(f"outs: [{whole}", f"outs: [{outs}]"))
    parcel = elsewhere.pack(workspace, OWN, DATASET, remote)
    trained = elsewhere.carry_out(parcel, STAGES[0], base)
    evaluated = elsewhere.carry_out(parcel, STAGES[1], base, before=[trained])
    elsewhere.take_in(workspace, [trained, evaluated], remote)
    assert not status(workspace)
    found = {p.name: p for p in (workspace.results(DATASET, "das") / "test_time").iterdir()}
    assert found.keys() == {"test_time.json", "seed-0.safetensors", "seed-1.safetensors"}
    assert found["seed-1.safetensors"].read_text() == "attention of das 1"


def test_an_evaluation_alone_reads_the_model_from_the_remote(
    workspace: Workspace, remote: str, base: Path
) -> None:
    versioning.reproduce(workspace, STAGES[0])
    parcel = elsewhere.pack(workspace, OWN, DATASET, remote, trained=["das"])
    evaluated = elsewhere.carry_out(parcel, STAGES[1], base)
    elsewhere.take_in(workspace, [evaluated], remote)
    assert not status(workspace)


def test_results_for_other_settings_than_those_of_now_are_not_taken_in(
    workspace: Workspace, remote: str, base: Path
) -> None:
    trained = elsewhere.carry_out(elsewhere.pack(workspace, OWN, DATASET, remote), STAGES[0], base)
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("epochs: 3", "epochs: 4"))
    assert "epochs: 4" in workspace.params.read_text()
    with pytest.raises(elsewhere.Changed, match="has changed since it was sent"):
        elsewhere.take_in(workspace, [trained], remote)
    assert STAGES[0] not in lock.entries(workspace)
    workspace.params.write_text(text)
    elsewhere.take_in(workspace, [trained], remote)  # nothing is in its way
    workspace.params.write_text(text.replace("epochs: 3", "epochs: 4"))
    with untouched(workspace), pytest.raises(elsewhere.Changed):
        elsewhere.take_in(workspace, [trained], remote)


@pytest.mark.parametrize("harm", ["other bytes", "missing"])
def test_a_file_that_is_not_what_it_should_be_is_refused(
    workspace: Workspace, remote: str, base: Path, tmp_path: Path, harm: str
) -> None:
    trained = elsewhere.carry_out(elsewhere.pack(workspace, OWN, DATASET, remote), STAGES[0], base)
    [tree] = lock.outputs({STAGES[0]: trained.entry}, STAGES[0]).values()
    store = objects.Store("store", tmp_path / "store")
    one = json.loads(store.find(tree)[0].read_text())[0]["md5"]
    [file] = store.find(one)
    file.chmod(0o600)
    file.unlink() if harm == "missing" else file.write_text("other bytes")
    with pytest.raises(RunError, match="files are missing there, or are not what they should be"):
        elsewhere.take_in(workspace, [trained], remote)
    assert STAGES[0] not in lock.entries(workspace)
    assert not workspace.models(DATASET, "das").exists()


def test_what_dvc_has_is_not_sent_away(workspace: Workspace) -> None:
    train = STAGES[0]
    assert elsewhere.restored(workspace, []) == set()
    assert elsewhere.restored(workspace, [train]) == set()
    versioning.reproduce(workspace, train)
    model = workspace.models(DATASET, "das")
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("epochs: 3", "epochs: 4"))
    versioning.reproduce(workspace, train)
    workspace.params.write_text(text)
    for remove in (False, True):  # of other settings; none
        if remove:
            shutil.rmtree(model)
        asked = [train, "train@ward-full"]
        assert elsewhere.restored(workspace, asked) == {train}
        assert train not in status(workspace)
        assert (model / "settings.json").is_file()


def test_what_dvc_does_not_have_stays_as_it_was_and_is_not_begun(workspace: Workspace) -> None:
    versioning.reproduce(workspace, STAGES[0])
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("epochs: 3", "epochs: 4"))
    with untouched(workspace):
        assert elsewhere.restored(workspace, [STAGES[0]]) == set()
    # The run is known, and of its files one is lost.
    workspace.params.write_text(text)
    shutil.rmtree(workspace.models(DATASET, "das"))
    [tree] = lock.outputs(lock.entries(workspace), STAGES[0]).values()
    objects.cache(workspace).find(tree)[0].unlink()
    with untouched(workspace):
        assert elsewhere.restored(workspace, [STAGES[0]]) == set()


def test_a_place_is_one_processs_and_a_variants_checkpoints_are_found_again(base: Path) -> None:
    base.mkdir()
    kept = base / "1" / places.CHECKPOINTS / "ward" / "das"
    kept.mkdir(parents=True)
    for number in (0, 1):
        (base / f"{number}.lock").touch()
    variant = Path("ward") / "das"
    with places.place(base, variant) as first, places.place(base, variant) as second:
        assert (first.root.name, second.root.name) == ("1", "0")
        with places.place(base, variant) as third:
            assert third.root.name == "2"
        (second.root / "data").mkdir(parents=True)
        (first.root / "data").mkdir(parents=True)
        (base / "cache").mkdir()
        guard = FileLock(base / "0.lock")
        assert not places._taken(guard)
        places.clear(base)
        assert (second.root / "data").is_dir()
        assert (base / "cache").is_dir()
    places.clear(base)
    assert kept.is_dir()
    assert not (base / "1" / "data").exists()
    assert not (base / "cache").exists()


def test_a_stage_that_begins_while_a_folder_is_cleared_waits_and_keeps_its_data(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that is given the next retraining's stage at the end of one."""
    variant = Path("ward") / "das"
    with places.place(base, variant) as used:
        pass
    (used.root / "data").mkdir(parents=True)
    (base / "cache").mkdir()
    begun, done = threading.Event(), threading.Event()
    pulled = base / "cache" / "frames"

    def stage() -> None:
        begun.set()
        with places.place(base, variant):
            pulled.parent.mkdir(exist_ok=True)
            pulled.touch()
            done.wait(60)

    thread = threading.Thread(target=stage)
    emptied = places.empty

    def slow(folder: Path, kept: Path) -> None:
        thread.start()
        begun.wait(60)
        time.sleep(0.3)
        emptied(folder, kept)

    monkeypatch.setattr(places, "empty", slow)
    places.clear(base)
    assert not (used.root / "data").exists()
    deadline = time.monotonic() + 60
    while not pulled.exists():  # what it pulled before the cache went is lost to it
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    places.clear(base)  # now the stage is in its way
    assert pulled.exists()
    done.set()
    thread.join(60)


def test_installations_that_share_a_folder_take_no_checkpoints_of_each_other(
    base: Path, workspace: Workspace, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their datasets and variants have the same names."""
    found = []

    def unpack(place: Workspace, parcel: elsewhere.Parcel, cache: Path, variant: Path) -> None:
        checkpoints = place.root / places.CHECKPOINTS / variant
        found.append((checkpoints.is_dir(), cache))
        checkpoints.mkdir(parents=True, exist_ok=True)
        raise RunError("cut off")

    monkeypatch.setattr(elsewhere, "_unpack", unpack)
    for own in (OWN, "another", OWN):
        parcel = elsewhere.Parcel(own, DATASET, "", b"", remote, "")
        with pytest.raises(RunError, match="cut off"):
            elsewhere.carry_out(parcel, STAGES[0], base)
    assert [one for one, _ in found] == [False, False, True]
    assert found[0][1] != found[1][1]  # and no data


def test_an_address_with_a_password_is_not_sent_to_workers(workspace: Workspace) -> None:
    command = [sys.executable, "-m", "dvc", "remote", "add", "far", "ssh://anna:secret@host/x"]
    assert versioning.run(command, cwd=workspace.root).code == 0
    with pytest.raises(UserError, match="its address holds a password") as refused:
        elsewhere.check(workspace, "far")
    assert "secret" not in str(refused.value)
    with pytest.raises(UserError, match=r"run\.remote: DVC has no remote 'none'"):
        elsewhere.check(workspace, "none")


def test_another_thread_may_end_children(tmp_path: Path) -> None:
    with versioning.children() as end:
        timer = threading.Timer(0.5, end)
        timer.start()
        ended = versioning.run(["sleep", "60"], cwd=tmp_path)
        assert ended.code < 0
        with pytest.raises(versioning.ChildrenEndedError):
            versioning.run(["true"], cwd=tmp_path)


def test_a_leashed_child_ends_with_its_owner(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from keyslice import versioning
with versioning.children(leashed=True):
    versioning.run([sys.executable, "-c", "import os, time; "
        "open('pid', 'w').write(str(os.getpid())); time.sleep(600)"], cwd=Path())
"""
    owner = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = identity(psutil.Process(int((tmp_path / "pid").read_text())))
    owner.kill()
    owner.wait()
    while alive(child) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_leash_passes_on_how_its_child_ended(tmp_path: Path) -> None:
    with versioning.children(leashed=True):
        assert versioning.run(["sh", "-c", "echo said; exit 3"], cwd=tmp_path) == (
            versioning.processes.Finished(3, ("said",))
        )

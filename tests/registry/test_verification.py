"""What is altered behind the ledger's back, by someone without the signing key, is found."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from keyslice.config import Params, Workspace, load
from keyslice.exams import history
from keyslice.provenance import canonical, ledger
from keyslice.provenance.evidence import Item
from keyslice.registry.approval import decide
from keyslice.registry.client import connect
from keyslice.registry.publish import publish
from keyslice.registry.verification import verify
from keyslice.versioning import anchor, objects

pytestmark = pytest.mark.forked_dvc

WHOLE = bool(os.environ.get("KEYSLICE_CHAOS"))
PLACES = 200 if WHOLE else 20
MODEL = "tiny"
PACKAGE = ("all its files", "what the model is made of")
"""Of which `verify` tells when any file of a package is another."""


@pytest.fixture(scope="module")
def audited(
    finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Params]]:
    """A registered, approved champion; the ledger's heads are signed."""
    place = tmp_path_factory.mktemp("audited")
    key = place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (place / "signers").write_text(f"anna {key.with_suffix('.pub').read_text()}")
    workspace = Workspace(Path(shutil.copytree(finished, place / "workspace")))
    params = load(workspace.params)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        environment.setenv("KEYSLICE_SIGNERS", str(place / "signers"))
        environment.setenv("KEYSLICE_SIGNING_KEY", str(key))
        history.keep(workspace, MODEL, _version(workspace))
        publish(workspace, params, MODEL)
        _passed(workspace)
        decide(workspace, MODEL, 1, "approved", "fine")
        environment.delenv("KEYSLICE_SIGNING_KEY")
        yield workspace, params


def _version(workspace: Workspace) -> str:
    from keyslice import versioning

    found = versioning.version(workspace, MODEL)
    assert found
    return found


def _passed(workspace: Workspace) -> None:
    payload = {
        "model": MODEL,
        "version": 1,
        "outcome": "passed",
        "champion": None,
        "approval": "required",
        "criteria": [],
    }
    ledger.append(workspace, "gate.evaluated", f"{MODEL}/1", payload)


@pytest.fixture(scope="module")
def cache(audited: tuple[Workspace, Params]) -> objects.Store:
    return objects.cache(audited[0])


def _faults(audited: tuple[Workspace, Params], cache: objects.Store) -> list[Item]:
    found = verify(*audited, MODEL, 1, cache)
    return [item for item in found if item.state in ("altered", "missing")]


def test_what_nobody_touched_is_sound_throughout(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    found = verify(*audited, MODEL, 1, cache)
    assert {item.state for item in found} == {"sound"}, [i for i in found if i.state != "sound"]
    parts = {"ledger", "registry", "package", "code", "data", "start", "results", "workspace"}
    assert {item.part for item in found} == parts


def test_what_an_earlier_release_trained_has_its_settings_by_value(
    workspace: Workspace, params: Params
) -> None:
    """A release that has added a setting takes the training from DVC's cache and registers it."""
    for file in workspace.root.glob(f"data/models/{MODEL}/*/settings.json"):
        settings = json.loads(file.read_text())
        settings["train"].pop("start")
        file.write_text(json.dumps(settings))
    commit = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force"]
    subprocess.run(commit, cwd=workspace.root, check=True)
    history.keep(workspace, MODEL, _version(workspace))
    publish(workspace, params, MODEL)
    found = verify(workspace, params, MODEL, 1, objects.cache(workspace))
    assert [one.state for one in found if one.what == "settings"] == ["sound"]


@contextmanager
def _as_before(*files: Path) -> Iterator[None]:
    """Bytes, times and modes of files, put back when the block is left."""
    before = [(file, file.read_bytes(), file.stat()) for file in files]
    try:
        yield
    finally:
        for file, content, state in before:
            _put(file, content, state)


def _put(file: Path, content: bytes, state: os.stat_result) -> None:
    """Other bytes under the same times and mode: what trusts those sees no change."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        file.unlink()
    file.write_bytes(content)
    file.chmod(state.st_mode)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def _altered(file: Path, how: str, rng: random.Random) -> None:
    content, state = bytearray(file.read_bytes()), file.stat()
    if how == "delete":
        file.unlink()
        return
    if how == "truncate":
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    _put(file, bytes(content), state)


def _files(workspace: Workspace) -> dict[str, list[Path]]:
    """What someone may reach for, by kind."""
    root = workspace.root
    told = next(e for e in ledger.read(workspace) if e.action == "model.registered").payload
    variant = told["variant"]
    below = {
        "exam": root / "data/exams/tiny",
        "shard": root / "data/prepared/tiny",
        "network": root / f"data/models/tiny/{variant}",
        "results": root / f"data/results/tiny/{variant}",
        "comparison": root / "data/comparisons/tiny",
        "package": root / "state/artifacts",
        "kept manifest": root / "state/manifests",
    }
    found = {kind: [p for p in top.rglob("*") if p.is_file()] for kind, top in below.items()}
    found["package"] = [p for p in found["package"] if f"model-{told['identity'][:12]}" in str(p)]
    found["parameters"] = [root / "params.yaml", root / "dvc.lock", root / "requirements.lock"]
    found["parameters"] = [path for path in found["parameters"] if path.is_file()]
    known = {path.read_bytes() for kind in ("exam", "shard", "network") for path in found[kind]}
    cached = [p for p in (root / ".dvc/cache").rglob("*") if p.is_file()]
    found["cache"] = [p for p in cached if p.read_bytes() in known]
    return {kind: sorted(p for p in paths if p.stat().st_size) for kind, paths in found.items()}


def test_any_file_that_is_changed_cut_or_removed_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    by_kind = _files(audited[0])
    assert all(by_kind.values()), {kind: len(paths) for kind, paths in by_kind.items()}
    rng = random.Random(0)
    kinds = sorted(by_kind)
    for number in range(PLACES):
        file = rng.choice(by_kind[kinds[number % len(kinds)]])
        how = rng.choice(["flip", "delete", "truncate"])
        was = file.read_bytes()
        with _as_before(file):
            _altered(file, how, rng)
            comment = file.name == "params.yaml" and _says_the_same(file, was)
            assert bool(_faults(audited, cache)) != comment, f"{how} {file}"
    assert _faults(audited, cache) == []


def _says_the_same(file: Path, was: bytes) -> bool:
    with suppress(OSError, yaml.YAMLError, UnicodeDecodeError):
        return yaml.safe_load(file.read_bytes()) == yaml.safe_load(was)
    return False


@pytest.mark.parametrize(
    ("words", "sound"),
    [
        ("# a comment\n", True),
        ("retrain: {schedule: {every_minutes: 5}}\nservice: {prefect_port: 4201}\n", True),
        ("promote: {margin: 0.2}\n", False),
    ],
)
def test_settings_that_no_model_is_made_from_may_change(
    audited: tuple[Workspace, Params], cache: objects.Store, words: str, sound: bool
) -> None:
    file = audited[0].params
    with _as_before(file):
        file.write_text(file.read_text() + words)
        assert [item.what for item in _faults(audited, cache)] == ([] if sound else ["params.yaml"])


@pytest.mark.parametrize("damage", [None, b"another attention"])
@pytest.mark.parametrize("place", ["package", "results", "cache"])
def test_what_a_model_learned_to_look_more_than_once_is_found_and_named(
    audited: tuple[Workspace, Params], cache: objects.Store, place: str, damage: bytes | None
) -> None:
    workspace = audited[0]
    own = workspace.results(MODEL, "das") / "test_time" / "seed-1.safetensors"
    content, shown = own.read_bytes(), own.relative_to(workspace.root).as_posix()
    learned = "what it learned to look more than once"
    tops = {
        "package": (workspace.state / "artifacts", {*PACKAGE, learned}),
        "results": (own.parent, {shown}),
        "cache": (cache.root, {shown}),
    }
    top, named = tops[place]
    [file] = [p for p in top.rglob("*") if p.is_file() and p.read_bytes() == content]
    with _as_before(file):
        if damage is None:
            file.unlink()
        else:
            _put(file, damage, file.stat())
        assert {item.what for item in _faults(audited, cache)} == named
    assert _faults(audited, cache) == []


def test_settings_of_the_evaluation_that_were_changed_after_the_training_are_the_versions(
    workspace: Workspace, params: Params
) -> None:
    """No reason to train anew: what the training has noted is not what the model is used with."""
    for file in workspace.root.glob(f"data/models/{MODEL}/*/settings.json"):
        settings = json.loads(file.read_text())
        settings["evaluate"] |= {"resamples": 77, "test_time": {"budget": 2}}
        file.write_text(json.dumps(settings))
    commit = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force"]
    subprocess.run(commit, cwd=workspace.root, check=True)
    history.keep(workspace, MODEL, _version(workspace))
    publish(workspace, params, MODEL)
    found = verify(workspace, params, MODEL, 1, objects.cache(workspace))
    assert [one.state for one in found if one.what == "settings"] == ["sound"]
    assert not [
        one for one in found if one.what.startswith("training's run") and one.state != "sound"
    ]


def test_two_exams_in_each_others_place_are_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    exams = _files(audited[0])["exam"]
    one, other = exams[:2]
    with _as_before(one, other):
        first, second = one.read_bytes(), other.read_bytes()
        _put(one, second, one.stat())
        _put(other, first, other.stat())
        assert {item.what for item in _faults(audited, cache)} == {
            f"data/exams/tiny/{path.name}" for path in (one, other)
        }


def test_an_exam_that_was_added_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    stranger = audited[0].exams(MODEL) / "stranger.npz"
    stranger.write_text("not ingested")
    assert [item.what for item in _faults(audited, cache)] == ["data/exams/tiny/stranger.npz"]
    stranger.unlink()


def _forged(lines: list[bytes], number: int) -> list[bytes]:
    """An event changed, and all after it chained anew, as someone does who knows the format."""
    found = [json.loads(line) for line in lines]
    found[number]["payload"]["forged"] = True
    for before, event in zip([None, *found[:-1]], found, strict=True):
        event.pop("hash")
        event["previous"] = before["hash"] if before else ledger.FIRST
        event["hash"] = canonical.sha256(event)
    return [canonical.dumps(event).encode() + b"\n" for event in found]


def _swapped(lines: list[bytes], number: int) -> list[bytes]:
    other = (number + 1) % len(lines)
    lines[number], lines[other] = lines[other], lines[number]
    return lines


LEDGER: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "removed": lambda lines, n: lines[:n] + lines[n + 1 :],
    "cut off": lambda lines, n: lines[:n],
    "swapped": _swapped,
    "chained anew": _forged,
    "flipped": lambda lines, n: [*lines[:n], lines[n].replace(b"1", b"2", 1), *lines[n + 1 :]],
}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("way", LEDGER)
def test_a_ledger_that_was_altered_is_found_also_where_every_head_was_removed(
    audited: tuple[Workspace, Params], cache: objects.Store, way: str, hidden: bool
) -> None:
    workspace = audited[0]
    noted = sorted((ledger.folder(workspace) / "heads").iterdir())
    ref = ["git", "rev-parse", anchor.REF]
    tip = subprocess.run(ref, cwd=workspace.root, capture_output=True, text=True, check=True)
    lines = ledger.path(workspace).read_bytes().splitlines(keepends=True)
    last = len(lines) - 1
    for number in range(len(lines)) if WHOLE else (0, last // 2, last):
        with _as_before(ledger.path(workspace), *noted):
            if hidden:
                for file in noted:
                    file.unlink()
                remove = ["git", "update-ref", "-d", anchor.REF]
                subprocess.run(remove, cwd=workspace.root, check=True)
            ledger.path(workspace).write_bytes(b"".join(LEDGER[way](list(lines), number)))
            faults = _faults(audited, cache)
        back = ["git", "update-ref", anchor.REF, tip.stdout.strip()]
        subprocess.run(back, cwd=workspace.root, check=True)
        assert faults, f"{way} {number}"


def _tags(client: MlflowClient) -> dict[str, str]:
    return dict(client.get_model_version(MODEL, "1").tags)


@pytest.mark.parametrize("removed", [0, 1])
def test_any_tag_that_was_changed_or_removed_in_mlflow_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store, removed: int
) -> None:
    client = connect(audited[0])
    ignored = {"keyslice.installation", "keyslice.package_format"}
    tags = {tag: value for tag, value in _tags(client).items() if tag not in ignored}
    for altered in [[tag] for tag in tags] if WHOLE else [[*tags]]:
        for tag in altered:
            if [*tags].index(tag) % 2 == removed:
                client.delete_model_version_tag(MODEL, "1", tag)
            else:
                client.set_model_version_tag(MODEL, "1", tag, "forged")
        found = {item.what for item in _faults(audited, cache)}
        for tag in altered:
            client.set_model_version_tag(MODEL, "1", tag, tags[tag])
        assert {f"tag {tag}" for tag in altered} <= found
    assert _faults(audited, cache) == []


RUN_CHANGES = {
    "parameter train.epochs": ("params", "key = 'train.epochs'", "'77'"),
    "test/auc": ("latest_metrics", "key = 'test/auc'", "0.987"),
    "/test/auc/mean": ("latest_metrics", "key LIKE '%/test/auc/mean'", "0.987"),
    "train_loss of epoch 0": ("metrics", "key = 'train_loss' AND step = 0", "0.001"),
    "tag keyslice.candidate": ("tags", "key = 'keyslice.candidate'", "'other/0'"),
    "tag keyslice.stage_hash": ("tags", "key = 'keyslice.stage_hash'", "'0'"),
}


@contextmanager
def _runs_changed(file: Path) -> Iterator[None]:
    """All RUN_CHANGES in MLflow's database, taken back when the block is left."""
    before = []
    with closing(sqlite3.connect(file)) as database, database:
        for table, where, value in RUN_CHANGES.values():
            rows = database.execute(f"SELECT value, rowid FROM {table} WHERE {where}").fetchall()
            assert rows
            before.append((table, rows))
            database.execute(f"UPDATE {table} SET value = {value} WHERE {where}")
    try:
        yield
    finally:
        with closing(sqlite3.connect(file)) as database, database:
            for table, rows in before:
                database.executemany(f"UPDATE {table} SET value = ? WHERE rowid = ?", rows)


def test_what_was_changed_of_a_run_in_mlflow_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    told = next(e for e in ledger.read(audited[0]) if e.action == "model.registered").payload
    kept = audited[0].state / "artifacts" / MODEL
    altered = [
        kept / told["training_run"] / "artifacts/history.csv",
        kept / told["run"] / "artifacts/comparison.csv",
    ]
    with _runs_changed(audited[0].state / "mlflow.db"), _as_before(*altered):
        for file in altered:
            _altered(file, "flip", random.Random(0))
        whats = [item.what for item in _faults(audited, cache)]
    for name in [*RUN_CHANGES, *(f"file {file.name}" for file in altered)]:
        assert [what for what in whats if what.endswith(name)], name
    assert all(what.startswith(("training's run", "retraining's run")) for what in whats)
    assert _faults(audited, cache) == []


def test_an_alias_that_was_moved_and_a_version_nobody_registered_are_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    client = connect(audited[0])
    stranger = client.create_model_version(MODEL, source="file:///nowhere").version
    assert [item.what for item in _faults(audited, cache)] == [f"version {stranger} in MLflow"]
    for alias in ("champion", "challenger"):
        client.set_registered_model_alias(MODEL, alias, str(stranger))
        assert f"@{alias}" in {item.what for item in _faults(audited, cache)}
        client.delete_registered_model_alias(MODEL, alias)
        assert f"@{alias}" in {item.what for item in _faults(audited, cache)}
        client.set_registered_model_alias(MODEL, alias, "1")
    client.delete_model_version(MODEL, str(stranger))
    assert _faults(audited, cache) == []


def test_a_file_of_the_run_commit_that_was_exchanged_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    root = audited[0].root
    told = next(e for e in ledger.read(audited[0]) if e.action == "model.registered").payload
    name = f"{told['run_commit']}:params.yaml"
    asked = ["git", "rev-parse", name]
    blob = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout
    file = root / ".git/objects" / blob[:2] / blob[2:].strip()
    content = zlib.decompress(file.read_bytes())
    forged = content.replace(b"seeds", b"sides")
    assert forged != content
    with _as_before(file):
        _put(file, zlib.compress(forged), file.stat())
        whats = {item.what for item in _faults(audited, cache)}
    assert any(what.startswith("params.yaml in run commit") for what in whats)


def test_a_ref_that_no_longer_keeps_the_run_commit_is_found(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    root = audited[0].root
    told = next(e for e in ledger.read(audited[0]) if e.action == "model.registered").payload
    ref = f"refs/keyslice/runs/{told['run']}"
    subprocess.run(["git", "update-ref", "-d", ref], cwd=root, check=True)
    assert [item.what for item in _faults(audited, cache)] == [ref]
    subprocess.run(["git", "update-ref", ref, told["run_commit"]], cwd=root, check=True)
    assert _faults(audited, cache) == []


def test_what_follows_the_last_signed_head_is_found_however_well_it_is_chained(
    audited: tuple[Workspace, Params], cache: objects.Store
) -> None:
    workspace = audited[0]
    with _as_before(ledger.path(workspace)):
        ledger.append(workspace, "model.approved", f"{MODEL}/1", {"forged": True})
        first = _faults(audited, cache)[0]
    assert "signed by nobody yet" in first.detail
    assert _faults(audited, cache) == []


def test_an_approval_by_a_key_that_may_not_sign_is_found(
    audited: tuple[Workspace, Params],
    cache: objects.Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    others = tmp_path / "signers"
    key = tmp_path / "mallory"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    others.write_text(f"mallory {key.with_suffix('.pub').read_text()}")
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(others))
    whats = {item.what for item in _faults(audited, cache)}
    assert any(what.startswith("signature of event") for what in whats)

"""Exams go to DVC's remotes over a folder, ssh and S3, come back, and are erased from each."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.versioning import objects
from tests.servers.process import free_port
from tests.servers.remotes import Remote, run
from tests.servers.s3 import S3
from tests.servers.ssh import SSH, new_key

THEIRS, OTHERS, GONE = b"an exam", b"another exam", b"a tombstone"
CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
EACH = pytest.mark.parametrize(
    "remote", [pytest.param("folder", marks=CHAOS), "ssh", "s3"], indirect=True
)


@pytest.fixture
def exams(tmp_path: Path) -> Workspace:
    """A version of two exams."""
    workspace = Workspace(tmp_path / "workspace")
    home = workspace.exams("tiny")
    home.mkdir(parents=True)
    (home / "theirs.npz").write_bytes(THEIRS)
    (home / "other.npz").write_bytes(OTHERS)
    run(workspace.root, "git", "init", "-q")
    run(workspace.root, "dvc", "init", "-q")
    versioning.record_version(workspace, "tiny")
    return workspace


def lose(workspace: Workspace) -> None:
    """What DVC keeps here, as on another machine."""
    shutil.rmtree(workspace.exams("tiny"))
    shutil.rmtree(workspace.root / ".dvc" / "cache")


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir()}


@EACH
def test_a_version_comes_back_from_a_remote_and_without_the_exam_that_was_erased_there(
    exams: Workspace, remote: Remote, tmp_path: Path
) -> None:
    remote.configure(exams.root)
    run(exams.root, "dvc", "push", "-q")
    lose(exams)
    run(exams.root, "dvc", "pull", "-q")
    assert contents(exams.exams("tiny")) == {"theirs.npz": THEIRS, "other.npz": OTHERS}
    with objects.stores(exams) as stores:
        for store in stores:
            [path] = store.find(hashlib.md5(THEIRS, usedforsecurity=False).hexdigest())
            store.replace(path, [GONE])
            store.flush()
    assert [store.name for store in stores] == ["cache", "store"]
    remote.fetch(tmp_path / "fetched")
    left = [path.read_bytes() for path in (tmp_path / "fetched").rglob("*") if path.is_file()]
    assert THEIRS not in left
    assert {OTHERS, GONE} < {*left}
    lose(exams)
    run(exams.root, "dvc", "pull", "-q")
    assert contents(exams.exams("tiny")) == {"theirs.npz": GONE, "other.npz": OTHERS}


@CHAOS
@pytest.mark.parametrize("remote", ["ssh", "s3"], indirect=True)
def test_a_remote_that_is_away_is_told_of_in_a_line_without_its_password(
    exams: Workspace, remote: Remote
) -> None:
    assert remote.server is not None
    here, away = str(remote.server.port), str(free_port())
    moved = {name: value.replace(here, away) for name, value in remote.settings.items()}
    Remote(moved, remote.fetch).configure(exams.root)
    told_of = rf"^the remote store does not let its objects be erased: .*{away}"
    with pytest.raises(RunError, match=told_of) as told, objects.stores(exams):
        pass
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


@CHAOS
@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_a_bucket_that_keeps_what_is_replaced_is_refused(
    exams: Workspace, s3: S3, status: str
) -> None:
    bucket = status.lower()
    s3.client().create_bucket(Bucket=bucket)
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    Remote(s3.settings("remote", bucket), lambda _: None).configure(exams.root)
    with pytest.raises(RunError, match=r"keeps versions"), objects.stores(exams):
        pass


@CHAOS
def test_an_ssh_server_that_does_not_know_the_key_is_told_of(
    exams: Workspace, ssh: SSH, tmp_path: Path
) -> None:
    new_key(tmp_path / "another")
    settings = ssh.settings("unknown") | {"keyfile": str(tmp_path / "another")}
    Remote(settings, lambda _: None).configure(exams.root)
    with pytest.raises(RunError, match=r"^the remote store .*denied"), objects.stores(exams):
        pass


@CHAOS
def test_dvc_takes_an_ssh_server_for_what_it_says_it_is(exams: Workspace, tmp_path: Path) -> None:
    """docs/operations.md warns of it; where DVC comes to check host keys, it need not any more."""
    home = tmp_path / "ssh"
    home.mkdir()
    with SSH(home).started() as server:
        Remote(server.settings("remote"), lambda _: None).configure(exams.root)
        run(exams.root, "dvc", "push", "-q")
        server.stop()
        for half in ("host", "host.pub"):
            (home / half).unlink()
        new_key(home / "host")
        server.start()
        lose(exams)
        run(exams.root, "dvc", "pull", "-q")
    assert contents(exams.exams("tiny")) == {"theirs.npz": THEIRS, "other.npz": OTHERS}

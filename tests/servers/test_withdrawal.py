"""A patient withdraws where the remote is a server: nothing of theirs is left there either."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.exams.container import TOMBSTONE
from keyslice.provenance import withdrawal, withdrawn
from keyslice.versioning.objects import FarStore
from tests.provenance.test_withdrawal import (  # noqa: F401
    asked,
    before,
    check_complete,
    check_nothing_is_left,
    killed_at,
    original,
    theirs,
    words,
)
from tests.provenance.test_withdrawal import workspace as pushed  # noqa: F401
from tests.servers.process import Server
from tests.servers.remotes import Remote, run

pytestmark = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
EACH = pytest.mark.parametrize("remote", ["ssh", "s3"], indirect=True)


@pytest.fixture
def workspace(pushed: Workspace, remote: Remote) -> Workspace:  # noqa: F811
    """Both versions lie on the server, and no other remote is left."""
    root = pushed.root
    run(root, "dvc", "remote", "remove", "store")
    shutil.rmtree(root.parent / "remote")
    remote.configure(root)
    run(root, "dvc", "push", "-q", "--all-tags")
    return pushed


def check_erased(
    workspace: Workspace,
    remote: Remote,
    words: dict[str, bytes],  # noqa: F811
    contents: Callable[[Path], bytes],
) -> None:
    """Here and on the server; and the first version comes back without them in a clone."""
    remote.fetch(workspace.root.parent / "fetched")
    check_complete(workspace, words, contents)
    clone = workspace.root.parent / "clone"
    run(workspace.root, "git", "clone", "-q", "--branch", "first", str(workspace.root), str(clone))
    remote.configure(clone)
    run(clone, "dvc", "pull", "-q")
    exams = [path.read_bytes() for path in (clone / "data/exams/ward").glob("*.zip")]
    assert len(exams) == 11
    assert exams.count(TOMBSTONE) == 2
    check_nothing_is_left(clone, words, contents)


@EACH
def test_after_a_withdrawal_nothing_of_theirs_is_left_on_the_server(
    workspace: Workspace,
    remote: Remote,
    asked: dict[str, str],  # noqa: F811
    words: dict[str, bytes],  # noqa: F811
    contents: Callable[[Path], bytes],
) -> None:
    remote.fetch(workspace.root.parent / "fetched")
    held = [contents(p) for p in (workspace.root.parent / "fetched").rglob("*") if p.is_file()]
    assert all(any(word in whole for whole in held) for word in words.values())
    shutil.rmtree(workspace.root.parent / "fetched")
    withdrawal.withdraw(workspace, asked, "asked for")
    check_erased(workspace, remote, words, contents)


@EACH
@pytest.mark.parametrize("number", [70, 100, 130])
def test_a_withdrawal_that_was_killed_is_completed_on_the_server_too(
    workspace: Workspace,
    remote: Remote,
    number: int,
    words: dict[str, bytes],  # noqa: F811
    contents: Callable[[Path], bytes],
) -> None:
    assert killed_at(workspace, number)
    assert len(withdrawal.resume(workspace)) == 1
    check_erased(workspace, remote, words, contents)


@pytest.mark.parametrize("remote", ["ssh"], indirect=True)
def test_a_server_that_goes_away_in_the_midst_is_erased_from_when_it_is_back(
    workspace: Workspace,
    remote: Remote,
    asked: dict[str, str],  # noqa: F811
    words: dict[str, bytes],  # noqa: F811
    contents: Callable[[Path], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = remote.server
    assert isinstance(server, Server)
    flush = FarStore.flush

    def away(store: FarStore) -> None:
        server.stop()
        try:
            flush(store)
        finally:
            server.start()

    monkeypatch.setattr(FarStore, "flush", away)
    with pytest.raises(RunError, match="the remote store does not let its objects be erased"):
        withdrawal.withdraw(workspace, asked, "asked for")
    assert withdrawn.notes(workspace)
    monkeypatch.undo()
    assert len(withdrawal.resume(workspace)) == 1
    check_erased(workspace, remote, words, contents)

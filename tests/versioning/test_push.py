"""A dataset's objects reach DVC's remotes, however often it takes."""

import contextvars
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.versioning import processes, push


def dvc(workspace: Workspace, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    answer = subprocess.run(
        command, cwd=workspace.root, check=True, capture_output=True, text=True, timeout=60
    )
    return answer.stdout


@pytest.fixture
def remote(workspace: Workspace) -> Path:
    """The folder of DVC's remote `archive`, which is not there yet."""
    folder = workspace.root.parent / "archive"
    (workspace.root / ".dvc/config").open("a").write(
        f"['remote \"archive\"']\n    url = {folder}\n"
    )
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait is short, the others follow from it."""
    monkeypatch.setattr(push, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(push, "PATIENCE_SECONDS", 0.03)


def objects(folder: Path) -> set[str]:
    """Of a cache or a remote."""
    return {path.relative_to(folder).as_posix() for path in (folder / "files/md5").glob("*/*")}


def own(workspace: Workspace, dataset: str) -> set[str]:
    """The objects of a dataset's version and of its preparation, as DVC's cache has them."""
    trees = [versioning.version(workspace, dataset)]
    entry = push.lock.entries(workspace)[f"prepare@{dataset}"]
    trees += [out["md5"] for out in entry["outs"]]
    found = {str(tree) for tree in trees}
    for tree in list(found):
        listing = workspace.root / ".dvc/cache/files/md5" / tree[:2] / tree[2:]
        found |= {file["md5"] for file in json.loads(listing.read_text())}
    return {f"files/md5/{md5[:2]}/{md5[2:]}" for md5 in found}


def test_what_a_dataset_needs_is_sent_and_nothing_of_another(
    workspace: Workspace, remote: Path
) -> None:
    told: list[str] = []
    versioning.push_dataset(workspace, "tiny", "archive", on_line=told.append)
    assert objects(remote) == own(workspace, "tiny")
    assert not own(workspace, "ward") <= objects(remote)
    assert told
    assert all(set(line) <= set("0123456789/?.kM") for line in told)
    shutil.rmtree(workspace.root / ".dvc/cache")
    shutil.rmtree(workspace.exams("tiny"))
    dvc(workspace, "pull", "--remote", "archive", "data/exams/tiny.dvc")
    assert (workspace.exams("tiny") / "2.npz").read_text() == "exam 2 of tiny"


def test_a_remote_that_comes_back_gets_all(
    workspace: Workspace, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "FIRST_WAIT_SECONDS", 0.1)
    remote.write_text("where its disk should be")
    told: list[str] = []

    def mounted(line: str) -> None:
        told.append(line)
        if line.endswith("again in 0.2 s"):
            remote.unlink()

    versioning.push_dataset(workspace, "tiny", "archive", on_line=mounted)
    failed = [line for line in told if "again" in line]
    assert [line.rpartition(" in ")[2] for line in failed] == ["0.1 s", "0.2 s"]
    assert all("remote archive: " in line and "Not a directory" in line for line in failed)
    assert objects(remote) == own(workspace, "tiny")


@pytest.mark.usefixtures("quick")
def test_a_remote_that_stays_away_is_one_line_and_the_next_push_sends_what_is_missing(
    workspace: Workspace, remote: Path
) -> None:
    remote.write_text("where its disk should be")
    with pytest.raises(RunError, match=r"^DVC's remote archive: sending tiny ") as caught:
        versioning.push_dataset(workspace, "tiny", "archive")
    assert "\n" not in str(caught.value)
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]
    remote.unlink()
    versioning.push_dataset(workspace, "tiny", "archive")
    assert objects(remote) == own(workspace, "tiny")
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == []


class Shelf(SimpleHTTPRequestHandler):
    """Takes and gives files under `root`, except that it does not take what is `refused`."""

    root: Path
    refused: ClassVar[set[str]] = set()

    def translate_path(self, path: str) -> str:
        return str(self.root / path.lstrip("/"))

    def do_POST(self) -> None:
        body = b""
        while size := int(self.rfile.readline(), 16):  # chunks, the last one empty
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        refuses = self.path.rpartition("/")[2] in self.refused
        if not refuses:
            file = Path(self.translate_path(self.path))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        self.send_response(403 if refuses else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def shelf(workspace: Workspace, remote: Path) -> Iterator[type[Shelf]]:
    """The remote `archive`, over http."""
    handler = type("_Shelf", (Shelf,), {"root": remote, "refused": set[str]()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        config = workspace.root / ".dvc/config"
        address = f"http://127.0.0.1:{server.server_address[1]}"
        config.write_text(config.read_text().replace(str(remote), address))
        yield handler
        server.shutdown()


@pytest.mark.usefixtures("quick")
def test_a_push_that_got_half_way_is_completed(
    workspace: Workspace, remote: Path, shelf: type[Shelf]
) -> None:
    cache = workspace.root / ".dvc/cache"
    every = own(workspace, "tiny")
    [exam] = [path for path in every if (cache / path).read_bytes() == b"exam 2 of tiny"]
    tree = str(versioning.version(workspace, "tiny"))
    shelf.refused.add(exam.rpartition("/")[2])
    with pytest.raises(RunError, match=r"remote archive: .* failed to upload \(403.*Forbidden"):
        versioning.push_dataset(workspace, "tiny", "archive")
    assert objects(remote) == every - {exam, f"files/md5/{tree[:2]}/{tree[2:]}"}
    shelf.refused.clear()
    versioning.push_dataset(workspace, "tiny", "archive")
    assert objects(remote) == every


def test_waits_double_and_add_up_to_the_patience() -> None:
    *waits, last = push._waits()
    assert last is None
    assert waits[:4] == [2, 4, 8, 16]
    assert sum(filter(None, waits)) == push.PATIENCE_SECONDS
    assert len(waits) + 1 == 10  # attempts, as PATIENCE_SECONDS says


@pytest.mark.usefixtures("quick")
def test_an_object_that_is_nowhere_is_no_success(workspace: Workspace, remote: Path) -> None:
    """DVC only warns, sends the rest, and ends with 0."""
    tree = str(versioning.version(workspace, "tiny"))
    cache = workspace.root / ".dvc/cache/files/md5"
    lost = json.loads((cache / tree[:2] / tree[2:]).read_text())[0]["md5"]
    (cache / lost[:2] / lost[2:]).unlink()
    with pytest.raises(RunError, match=r"remote archive: .* neither there nor in the cache"):
        versioning.push_dataset(workspace, "tiny", "archive")
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]


def test_what_has_moved_since_is_to_be_pushed(workspace: Workspace, remote: Path) -> None:
    assert versioning.unpushed(workspace, "tiny", ["archive", "other"]) == ["archive", "other"]
    versioning.push_dataset(workspace, "tiny", "archive")
    assert versioning.unpushed(workspace, "tiny", ["archive", "other"]) == ["other"]
    assert versioning.unpushed(workspace, "ward", ["archive"]) == ["archive"]
    lock_file = workspace.root / "dvc.lock"
    with lock_file.open("a") as file:
        file.write("  train@tiny-das:\n    cmd: python stage.py train tiny das\n")
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]
    (workspace.state / "pushed/tiny.json").write_text("{")
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]


@pytest.mark.forked_dvc
def test_new_networks_to_start_from_are_to_be_pushed(workspace: Workspace, remote: Path) -> None:
    versioning.push_dataset(workspace, "tiny", "archive")
    network = workspace.networks("tiny") / "a.safetensors"
    for content in ("of version 1", "of version 2"):
        network.parent.mkdir(parents=True, exist_ok=True)
        network.write_text(content)
        versioning.record_networks(workspace, "tiny")
        assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]
        versioning.push_dataset(workspace, "tiny", "archive")
        assert any(file.read_text() == content for file in (remote / "files/md5").glob("*/*"))
        assert versioning.unpushed(workspace, "tiny", ["archive"]) == []


def test_a_push_that_never_ends_is_ended(workspace: Workspace, remote: Path) -> None:
    with workspace.params.open("a") as params:
        params.write("retrain: {stage_hours: 0.00001}\n")
    with pytest.raises(RunError, match=r"^DVC's remote archive: .*stage_hours") as told:
        push.push_dataset(workspace, "tiny", "archive")
    assert "0.00001 h" in str(told.value) or "1e-05 h" in str(told.value)
    assert versioning.unpushed(workspace, "tiny", ["archive"]) == ["archive"]


def test_another_dvc_command_is_waited_for(workspace: Workspace, remote: Path) -> None:
    hold = (
        "import sys, zc.lockfile; held = zc.lockfile.LockFile(sys.argv[1]); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(workspace.root / ".dvc/tmp/lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        told: list[str] = []
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run,
            args=(versioning.push_dataset, workspace, "tiny", "archive"),
            kwargs={"on_line": told.append},
        )
        thread.start()
        deadline = time.monotonic() + 60
        while not any((workspace.root / processes.CHILDREN).glob("[!.]*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(4)  # longer than DVC waits when it is not told to
        assert thread.is_alive()
        assert not remote.exists()
        other.communicate()
    thread.join(60)
    assert objects(remote) == own(workspace, "tiny")
    assert not any("again" in line for line in told)


def test_remotes_are_known_before_work_starts(workspace: Workspace, remote: Path) -> None:
    versioning.check_remotes(workspace, ["archive", "Archive"])  # DVC's names have one case
    with pytest.raises(UserError, match=r"^versioning.push: .*'archiv'.*did you mean 'archive'"):
        versioning.check_remotes(workspace, ["archive", "archiv"])
    assert not remote.exists()
    (workspace.root / ".dvc/config").write_text("")
    with pytest.raises(UserError, match="dvc remote add archive URL"):
        versioning.check_remotes(workspace, ["archive"])


@pytest.mark.parametrize("key", ["version_aware", "worktree"])
def test_a_remote_for_which_dvc_rewrites_pointers_is_refused(
    workspace: Workspace, remote: Path, key: str
) -> None:
    dvc(workspace, "remote", "modify", "archive", key, "true")
    with pytest.raises(UserError, match=rf"'archive' has {key} on.*--unset archive {key}"):
        versioning.check_remotes(workspace, ["archive"])


def test_no_remotes_need_no_dvc(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(processes, "run", never)
    versioning.check_remotes(workspace, [])


def test_no_password_is_told() -> None:
    said = "ERROR: failed to transfer 'a1' - cannot reach ssh://anna:secret@archive/x"
    last = "ERROR: failed to push data to the cloud - 1 files failed to upload"
    words = push._words(processes.Finished(1, (said, last, "", "Having any troubles?")))
    assert words == "1 files failed to upload (cannot reach ssh://archive/x)"

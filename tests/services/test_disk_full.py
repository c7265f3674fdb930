"""`make chaos`: the disk that a workspace lies on is full in mid-run.

The workspace is a small disk of its own, which nothing but these tests can see. A file takes all
that is left of it, and again what a run that fails gives back.
"""

import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.services.world import BOUNDARIES, Moment, World, run

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes an hour: make chaos"),
    pytest.mark.timeout(1800),
]
MEGABYTES = 200
CLONE_NEWNS = 0x00020000
"""Of Linux: a view of mounted disks of one's own."""


class Disk:
    """A small one of a folder's own, in memory; ends with the block."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        self.folder.mkdir()
        # Others do not see it, so that none is left behind by a test that is killed.
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            reason = os.strerror(ctypes.get_errno())
            pytest.skip(f"this account may not mount a disk of its own ({reason})")
        size = f"size={MEGABYTES}m"
        for command in (
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "tmpfs", "-o", size, "none", str(self.folder)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        try:
            yield self
        finally:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Full in the block, also where something in it is deleted; then as before."""
        done = threading.Event()

        def fill() -> None:
            with self._filler.open("ab", buffering=0) as file:
                while True:
                    left = os.statvfs(self.folder)
                    if free := left.f_bavail * left.f_frsize:
                        end = os.fstat(file.fileno()).st_size
                        try:
                            os.posix_fallocate(file.fileno(), end, free)
                        except OSError:  # somebody else was faster
                            continue
                    if done.wait(0.01):
                        return

        filling = threading.Thread(target=fill)
        filling.start()
        try:
            yield
        finally:
            done.set()
            filling.join()
            self._filler.unlink()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with Disk(tmp_path_factory.mktemp("world") / "workspace").mounted() as found:
        yield found


@pytest.fixture(scope="module")
def world(clone: Callable[..., Path], disk: Disk) -> Iterator[World]:
    found = World(disk.folder, "retrain")
    found.make(clone({}), {"url": str(disk.folder.with_name("far"))}, {})
    yield found
    found.kill()


@pytest.fixture(scope="module")
def undisturbed(world: World) -> dict[str, str]:
    """What a run that nothing disturbs leaves."""
    world.restore()
    world.keyslice("retrain", "scans")
    return world.reference()


def _taken_in(world: World) -> Callable[[], bool]:
    """Whether an exam has come to those of the dataset."""

    def count(root: Path) -> int:
        return len([*(root / "data" / "exams" / "scans").glob("*.zip")])

    return lambda: count(world.root) > count(world.kept)


MOMENTS: dict[str, Moment] = {
    "it begins": lambda w: lambda: True,
    "an exam is taken in": _taken_in,
    "the version is recorded": BOUNDARIES["the version is recorded"],
    "a training has begun": BOUNDARIES["a training has begun"],
    "an evaluation has begun": lambda w: lambda: w.runs_of("evaluate@scans-full") > 1,
    "a variant is evaluated": BOUNDARIES["a variant is evaluated"],
    "variants are compared": BOUNDARIES["variants are compared"],
    "the version is registered": BOUNDARIES["the version is registered"],
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_is_full_is_told_of_and_the_next_run_goes_on(
    world: World, undisturbed: dict[str, str], disk: Disk, moment: str
) -> None:
    world.restore()
    process = world.start()
    world.wait(MOMENTS[moment](world), "the moment did not come")
    with disk.full():
        world.wait(lambda: process.poll() is not None, "it did not end")
        said = world.log.read_text()
        assert process.returncode == 1, said
        assert "Traceback" not in said
        lines = [line for line in said.splitlines() if line.startswith(("failed:", "error:"))]
        assert len(lines) == 1, said
        assert "no space left on device" in lines[0].lower()
        assert said.splitlines()[-1] == lines[0]
        world.wait(lambda: not world.processes(), "processes are left")
        assert json.loads(world.keyslice("ledger", "verify", "--json"))["intact"]
        run(world.root, "git", "fsck", "--strict")
        assert yaml.safe_load((world.root / "dvc.lock").read_text())["stages"]
    done = world.complete()
    runs = {stage: world.runs_of(stage) for stage in done}
    world.keyslice("retrain", "scans")
    assert world.files() == undisturbed
    assert {stage: world.runs_of(stage) for stage in done} == runs
    assert world.keyslice("retrain", "scans").startswith("Nothing new")

"""How many trainings run at once, and on which GPU."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from flows import engine, gpu, tasks
from flows.engine import cores
from flows.progress import Step
from keyslice import versioning
from keyslice.config import Run, Workspace, load
from keyslice.errors import UserError


@pytest.fixture
def side_by_side(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    """`side_by_side("device: cpu", cores=16, found=0)` with these settings of training."""

    def ask(train: str, *, found: int = 0, cores: int = 16, alone: bool = False) -> int:
        text = workspace.params.read_text()
        if train not in text:
            workspace.params.write_text(text.replace("train:\n", f"train:\n  {train}\n"))
        monkeypatch.setattr(engine, "cores", lambda: cores)
        monkeypatch.setattr(gpu, "suspected", lambda: True)
        monkeypatch.setattr(gpu, "_ASK_TORCH", ("echo", str(found)))
        with engine.task_runner(workspace, load(workspace.params), ["tiny"], alone=alone) as runner:
            return runner._max_workers

    return ask


def test_a_gpu_trains_one_variant_at_a_time(side_by_side) -> None:
    assert side_by_side("device: auto", found=1) == 1


@pytest.mark.parametrize(("cores", "expected"), [(16, 4), (3, 3)])
def test_each_of_several_gpus_trains_a_variant_if_there_are_cores_for_it(
    side_by_side, cores: int, expected: int
) -> None:
    assert side_by_side("device: auto", found=4, cores=cores) == expected


def test_where_a_gpu_is_demanded_one_trains_at_a_time(side_by_side) -> None:
    assert side_by_side("device: cuda", found=0) == 1


@pytest.mark.parametrize("train", ["device: auto", "device: cpu"])
def test_without_a_gpu_each_core_trains_a_variant(side_by_side, train: str) -> None:
    assert side_by_side(train, found=int(train == "device: cpu")) == 16


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its GPUs as files")
def test_torch_is_not_asked_where_nothing_speaks_for_a_gpu(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "suspected", lambda: False)
    monkeypatch.setattr(gpu, "_ASK_TORCH", ("echo", "1"))
    assert gpu.devices(workspace) == ()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("dev/nvidia0", True),
        ("dev/kfd", True),
        ("proc/driver/nvidia/version", True),
        ("sys/bus/pci/devices/0000:01:00.0/vendor", True),
        ("sys/bus/pci/devices/0000:01:00.0/class", False),
        ("dev/null", False),
    ],
)
def test_a_gpu_is_suspected_by_what_its_driver_or_the_bus_shows(
    tmp_path: Path, file: str, expected: bool
) -> None:
    shown = tmp_path / file
    shown.parent.mkdir(parents=True)
    shown.write_text("0x10de\n")
    assert gpu.suspected(tmp_path) is expected


@pytest.mark.parametrize(("cores", "expected"), [(16, 4), (6, 1), (2, 1)])
def test_threads_of_a_training_share_no_core(side_by_side, cores: int, expected: int) -> None:
    assert side_by_side("threads: 4", cores=cores) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1)],
)
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(engine, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert cores() == expected


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The GPU of each stage that was run, in the order of their ends; all run side by side."""
    found: list[str | None] = []
    together = threading.Barrier(3)

    def reproduce(workspace: Workspace, stage: str, *, variables: dict[str, str], **_: Any) -> str:
        together.wait(20)
        found.append(variables.get(gpu.VISIBLE))
        return "ran"

    monkeypatch.setattr(versioning, "reproduce", reproduce)
    return found


def run_together(workspace: Workspace, *stages: str) -> None:
    with ThreadPoolExecutor(len(stages)) as pool:
        for stage in stages:
            pool.submit(copy_context().run, tasks._reproduced, workspace, stage, Step(stage, None))


def test_trainings_side_by_side_have_a_gpu_each_and_preparing_has_none(
    workspace: Workspace, seen: list[str | None]
) -> None:
    with gpu.lending(workspace, ("2", "5")):
        run_together(workspace, "train@tiny-full", "evaluate@tiny-das", "prepare@tiny")
        assert sorted(map(str, seen)) == ["2", "5", "None"]
        seen.clear()
        run_together(workspace, "train@a-b", "train@a-c", "prepare@a")  # what was lent is back
        assert sorted(map(str, seen)) == ["2", "5", "None"]


@pytest.mark.parametrize(
    ("found", "parallel", "expected"),
    [
        (("2", "5"), 3, (["2", "2", "5"], ["2", "5", "5"])),
        (("0",), 3, (["0"] * 3,)),
        ((), 3, (["None"] * 3,)),
    ],
)
def test_gpus_are_shared_where_more_trainings_are_demanded_than_there_are(
    workspace: Workspace,
    seen: list[str | None],
    found: tuple[str, ...],
    parallel: int,
    expected: tuple[list[str], ...],
) -> None:
    with gpu.lending(workspace, found, parallel):
        run_together(workspace, "train@a-b", "train@a-c", "train@a-d")
    assert sorted(map(str, seen)) in expected


OTHER = """
import sys, time
from pathlib import Path
from flows import gpu
from keyslice.config import Workspace

with (
    gpu.lending(Workspace(Path(sys.argv[1])), sys.argv[2].split(",")),
    gpu.lent("train@other-das") as own,
):
    print(own[gpu.VISIBLE], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(workspace: Workspace) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str]]]:
    """`other("0,1")`: another retraining, which trains on one of these GPUs, and that one."""
    begun: list[subprocess.Popen[str]] = []

    def start(names: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", OTHER, str(workspace.root), names]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_two_retrainings_take_different_gpus(workspace: Workspace, other) -> None:
    assert other("0,1")[1] == "0"
    with gpu.lending(workspace, ("0", "1")), gpu.lent("train@tiny-das") as own:
        assert own == {gpu.VISIBLE: "1"}


@pytest.mark.parametrize("names", ["0", "MIG-GPU-b7/1/0"])
def test_a_gpu_is_waited_for_and_a_kill_of_who_has_it_frees_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, other, names: str
) -> None:
    monkeypatch.setattr(gpu, "POLL_SECONDS", 0.05)
    process, taken = other(names)
    assert taken == names
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        if len(looks) == 3:
            process.kill()

    monkeypatch.setattr(versioning, "check_children", look)
    with gpu.lending(workspace, (names,)), gpu.lent("train@tiny-das") as own:
        assert own == {gpu.VISIBLE: names}
    assert len(looks) >= 3


def test_who_waits_for_a_gpu_can_be_cancelled(workspace: Workspace) -> None:
    with (
        gpu.lending(workspace, ("0",)),
        gpu.lent("train@tiny-das"),
        versioning.children() as end,
        ThreadPoolExecutor(1) as pool,
    ):
        waits = pool.submit(copy_context().run, lambda: gpu.lent("train@tiny-full").__enter__())
        assert not waits.done()
        end()
        with pytest.raises(versioning.ChildrenEndedError):
            waits.result(60)


def test_retrainings_of_a_service_share_the_cores(side_by_side, workspace: Workspace) -> None:
    with workspace.params.open("a") as params:
        params.write("service: {retrainings: 2}\n")
    assert side_by_side("threads: 4", cores=16) == 2
    assert side_by_side("threads: 4", cores=16, alone=True) == 4
    assert side_by_side("threads: 4", cores=4) == 1


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [("", "3", ("0", "1", "2")), ("GPU-b7, 4", "2", ("GPU-b7", "4")), ("1,2", "no torch", ())],
)
def test_gpus_are_named_as_who_started_the_service_named_them(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    count: str,
    expected: tuple[str, ...],
) -> None:
    monkeypatch.setattr(gpu, "suspected", lambda: True)
    monkeypatch.setattr(gpu, "_ASK_TORCH", ("echo", count))
    monkeypatch.setenv(gpu.VISIBLE, visible)
    assert gpu.devices(workspace) == expected


def test_what_is_for_threads_alone_is_refused_on_dask(workspace: Workspace) -> None:
    run = Run(engine="dask", scheduler="tcp://cluster:8786", remote="store")
    params = load(workspace.params).model_copy(update={"run": run})
    with (
        pytest.raises(UserError, match="--parallel: is for the engine threads"),
        engine.task_runner(workspace, params, ["tiny"], 2),
    ):
        pass

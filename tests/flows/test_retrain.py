"""How many trainings run at once, and what a failing Prefect is told by."""

import sys
from pathlib import Path

import pytest

from flows import gpu, retrain
from flows.retrain import at_once, cores
from keyslice.config import Workspace, load


@pytest.fixture
def side_by_side(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    """`side_by_side("device: cpu", cores=16, found=False)` with these settings of training."""

    def ask(train: str, *, found: bool = False, cores: int = 16) -> int:
        text = workspace.params.read_text().replace("train:\n", f"train:\n  {train}\n")
        workspace.params.write_text(text)
        monkeypatch.setattr(retrain, "cores", lambda: cores)
        monkeypatch.setattr(gpu, "suspected", lambda: True)
        monkeypatch.setattr(gpu, "_ASK_TORCH", ("echo", str(found)))
        return at_once(workspace, load(workspace.params), ["tiny"])

    return ask


def test_a_gpu_trains_one_variant_at_a_time(side_by_side) -> None:
    assert side_by_side("device: auto", found=True) == 1


def test_where_a_gpu_is_demanded_one_trains_at_a_time(side_by_side) -> None:
    assert side_by_side("device: cuda", found=False) == 1


@pytest.mark.parametrize("train", ["device: auto", "device: cpu"])
def test_without_a_gpu_each_core_trains_a_variant(side_by_side, train: str) -> None:
    assert side_by_side(train, found=train == "device: cpu") == 16


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its GPUs as files")
def test_torch_is_not_asked_where_nothing_speaks_for_a_gpu(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "suspected", lambda: False)
    monkeypatch.setattr(gpu, "_ASK_TORCH", ("echo", "True"))
    assert not gpu.available(workspace)


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
    monkeypatch.setattr(retrain, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert cores() == expected


def test_a_prefect_that_does_not_start_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    told = str(retrain._prefect_failed(RuntimeError("Timed out")))
    assert told.startswith("Prefect: Timed out; PREFECT_API_URL is not set")
    assert "state/prefect; where that is damaged, or a newer Prefect wrote it, move" in told

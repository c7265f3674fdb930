"""Shared by all tests: settings of a small network, and no telemetry."""

import gzip
import io
import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from pebble import ProcessPool

# Examples are the same in every run, and a slow machine is no failure.
settings.register_profile("keyslice", deadline=None, derandomize=True)
settings.load_profile("keyslice")

# Before any library reads them.
os.environ.update(
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DVC_NO_ANALYTICS="1",
    HF_HUB_OFFLINE="1",
)

from keyslice.config import (  # noqa: E402
    SAMPLER_SETTINGS,
    Backbone,
    Evaluate,
    Limits,
    Model,
    Prepare,
    StageSettings,
    Train,
)
from keyslice.exams.workers import Workers  # noqa: E402
from keyslice.versioning import processes  # noqa: E402
from tests import forking, scans  # noqa: E402

ROOT = Path(__file__).parents[1]
TINY_BACKBONE = "test_resnet"  # timm's smallest: a whole network in half a megabyte


SMALLEST_PARAMS = """
datasets: {%s}
variants: {full: {sampler: full}, das: {sampler: das, keep: 0.5}}
prepare: {}
backbone: {}
model: {}
train: {}
evaluate: {}
compare: {references: [full]}
"""


LONG = (
    "test_end_to_end",
    "test_privacy",
    "test_killed",
    "test_withdrawal",
    "test_serving",
    "test_chain",
    "test_fit",
)
"""Files that take longest; begun first, no core waits for another at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture
def folder_params(tmp_path: Path) -> Callable[..., None]:
    """`folder_params("a", "b")`: tmp_path/params.yaml with these datasets, of source folder."""

    def write(*datasets: str) -> None:
        listed = ", ".join(f"{n}: {{source: folder, classes: [healthy, lesion]}}" for n in datasets)
        (tmp_path / "params.yaml").write_text(SMALLEST_PARAMS % listed)

    return write


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`clone(params)`: a new folder with the code, no datasets, and these settings."""

    def make(params: dict[str, Any]) -> Path:
        root = tmp_path_factory.mktemp("clone")
        scans.clone(root, params)
        return root

    return make


@pytest.fixture(scope="session")
def dvc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a server that DVC's calls are forked from; see forking.py."""
    address = str(tmp_path_factory.mktemp("dvc") / "socket")
    with forked_from(address, "dvc"):
        yield address


@contextmanager
def forked_from(address: str, program: str) -> Iterator[None]:
    """A server of forking.py while the block runs."""
    command = [sys.executable, str(ROOT / "tests" / "forking.py"), "serve", address, program]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield
        server.kill()


@pytest.fixture(scope="module", autouse=True)
def _forked_dvc(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of modules with the mark: those that start DVC often, and do not kill it."""
    if request.node.get_closest_marker("forked_dvc") is None or "KEYSLICE_CHAOS" in os.environ:
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(processes, "DVC", forking.called(request.getfixturevalue("dvc_server")))
        yield


@pytest.fixture(scope="session")
def stage_settings() -> Callable[..., StageSettings]:
    """`stage_settings("das", keep=0.5, epochs=2, …)`: a variant with a tiny backbone."""

    def make(
        sampler: str, *, keep: float = 0.5, image_size: int = 32, **train: Any
    ) -> StageSettings:
        return StageSettings(
            dataset="tiny",
            classes=("no", "yes"),
            variant=sampler,
            sampler=sampler,
            keep=1.0 if sampler == "full" else keep,
            sampler_settings=SAMPLER_SETTINGS[sampler](),
            prepare=Prepare(image_size=image_size),
            backbone=Backbone(name=TINY_BACKBONE, weights="none"),
            model=Model(attention_width=8, hidden_width=8),
            train=Train.model_validate({"seeds": (0,), "device": "cpu", **train}),
            evaluate=Evaluate(),
        )

    return make


@pytest.fixture
def contents() -> Callable[[Path], bytes]:
    """`contents(path)`: all that a file holds, compressed or not, to search for words in it."""
    return _contents


def _contents(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as database:  # longer texts lie in pieces in the file
            return raw + "\n".join(database.iterdump()).encode(errors="replace")
    if raw.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(raw))
        return repr((table.to_pylist(), table.schema.metadata)).encode()
    if raw.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return raw + b"".join(map(archive.read, archive.namelist()))
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


_POOL = Workers.pool


@pytest.fixture(scope="session")
def _reader() -> Iterator[ProcessPool]:
    with Workers(Limits(), count=1) as workers:
        yield _POOL(workers)


@pytest.fixture(autouse=True)
def _one_reader_for_all(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exams are read in another process, as ever, but it is not started anew for each test."""
    if request.node.path.name in {"test_workers.py", "test_fuzz.py"}:
        return

    def pool(self: Workers) -> ProcessPool:
        return request.getfixturevalue("_reader")

    monkeypatch.setattr(Workers, "pool", pool)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

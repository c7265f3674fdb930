"""One registered version, with a real network, by every way that it predicts: the same numbers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from keyslice.config import Workspace, load
from keyslice.console import prediction
from keyslice.models import build
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.predictor import Predictor
from keyslice.registry.mirror import Mirror
from keyslice.registry.models import download
from keyslice.registry.register import register

VARIANTS = ("full", "uniform", "das")


def exam(frames: int, dtype: str = "uint8", *, colour: bool = False) -> np.ndarray:
    shape = (frames, 20, 24, 3) if colour else (frames, 20, 24)
    drawn = np.random.default_rng(frames).uniform(0, 255, shape)
    return (drawn * 10 - 1000 if dtype == "int16" else drawn).astype(dtype)


EXAMS = [exam(9), exam(4, colour=True), exam(1), exam(12, "int16"), exam(6, "float32")]


@dataclass(frozen=True)
class Registered:
    workspace: Workspace
    files: list[Path]
    """Of the exams of `EXAMS` that are grey and of whole numbers."""

    @property
    def store(self) -> str:
        """The embedded one, for those who do not know the workspace."""
        return f"sqlite:///{self.workspace.state}/mlflow.db"


@pytest.fixture(scope="module")
def registered(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """The finished workspace; in the candidate's place an untrained network that looks more
    than once.
    """
    folder = tmp_path_factory.mktemp("serving")
    workspace = Workspace(Path(shutil.copytree(finished, folder / "workspace")))
    params = load(workspace.params)
    network = build.fresh(params.stage("tiny", "das"), seed=1)
    build.save(network, workspace.models("tiny", "das") / "seed-1/model.safetensors")
    attention = StateAttention(network.backbone.width)
    learned = workspace.results("tiny", "das") / "test_time" / "seed-1.safetensors"
    save_file(attention.state_dict(), learned)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        mirror = Mirror(workspace, "tiny")
        register(workspace, params, "tiny", mirror.complete(mirror.begin(), VARIANTS, "c0ffee"))
    files = []
    for frames in (one for one in EXAMS if one.ndim == 3 and one.dtype != np.float32):
        files.append(folder / f"{len(frames)}.nii.gz")
        nib.save(nib.Nifti1Image(frames.transpose(2, 1, 0), np.diag([1, 1, 5, 1.0])), files[-1])
    return Registered(workspace, files)


@pytest.fixture(scope="module")
def server(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = [sys.executable, "-m", "mlflow", "models", "serve"]
    command += ["--model-uri", "models:/tiny@challenger", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": registered.store, "PATH": path}
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, env=environment, stdout=told, stderr=told, start_new_session=True
        )
    running = Server(f"http://127.0.0.1:{port}", log)
    try:
        while not running.answers():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@dataclass(frozen=True)
class Server:
    address: str
    log: Path

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.address}/ping", timeout=5).status == 200
        except OSError:
            return False

    def post(self, content: Any) -> tuple[int, Any]:
        """The status and the answer."""
        asked = urllib.request.Request(
            f"{self.address}/invocations",
            data=json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def predict(self, column: str, values: list[Any]) -> list[dict[str, Any]]:
        status, answer = self.post({"dataframe_records": [{column: value} for value in values]})
        assert status == 200, answer
        return answer["predictions"]


def rows(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `keyslice predict --json` gives, in the columns that MLflow gives."""
    return [
        {
            "label": one["label"],
            "above_threshold": one["above_threshold"],
            **{f"probability.{name}": value for name, value in one["probabilities"].items()},
            "kept": one["kept"],
            "attention": one["attention"],
        }
        for one in predictions
    ]


@pytest.fixture
def told(
    registered: Registered, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """By `keyslice predict --json FILES`."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prediction.run(
        registered.workspace, registered.files, name="tiny", version="@challenger", as_json=True
    )
    return rows(json.loads(capsys.readouterr().out))


def as_json(frames: np.ndarray) -> dict[str, Any]:
    return {"dtype": frames.dtype.name, "samples": frames.tolist()}


def test_files_are_predicted_the_same_by_command_library_and_server(
    registered: Registered,
    server: Server,
    told: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [str(file) for file in registered.files]
    assert server.predict("file", paths) == told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.store)
    loaded = mlflow.pyfunc.load_model("models:/tiny@challenger")
    assert loaded.predict(pd.DataFrame({"file": paths})).to_dict("records") == told


def test_arrays_are_predicted_the_same_by_library_and_server(
    registered: Registered, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exams of other lengths, in colour, of every type, in one request."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    package = download(registered.workspace, "tiny")
    used = Predictor.load(package)
    expected = rows([one.as_dict() for one in used.predict_arrays(EXAMS)])
    loaded = mlflow.pyfunc.load_model(str(package.parents[1]))
    assert server.predict("frames", [as_json(one) for one in EXAMS]) == expected
    assert loaded.predict(pd.DataFrame({"frames": EXAMS})).to_dict("records") == expected


def test_a_request_at_fault_is_answered_with_the_reason_and_the_log_does_not_name_the_file(
    registered: Registered, server: Server, tmp_path: Path
) -> None:
    torn = tmp_path / "Mustermann_Max.nii.gz"
    torn.write_bytes(b"\x1f\x8b torn")
    good = str(registered.files[0])
    cases = [
        ([{"file": good}, {"file": str(torn)}], "Mustermann_Max.nii.gz: "),
        ([{"file": "/nowhere/Mustermann_Max.nii"}], "no such file"),
        ([{"file": None}], "must be the path of an exam"),
        ([{"file": good}, {"frames": as_json(exam(2))}], "give one of the columns"),
        ([{"frames": exam(2).tolist()}], "exam 0: frames are without a type"),
        ([{"frames": as_json(exam(2, "float32")) | {"dtype": "uint8"}}], "are no uint8"),
        ([{"path": good}], "give one of the columns"),
    ]
    for records, said in cases:
        status, answer = server.post({"dataframe_records": records})
        assert (status, said in answer["message"]) == (400, True), answer
        assert "Traceback" not in json.dumps(answer)
        assert "stack_trace" not in answer
    assert "Mustermann" not in server.log.read_text()
    assert server.answers()

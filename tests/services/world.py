"""A workspace that is retrained again and again, and the moments of a retraining."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from flows import attempts
from keyslice.config import Workspace
from keyslice.provenance import events, ledger
from keyslice.stages.running import alive
from keyslice.versioning import lock
from tests import scans
from tests.scans import PARAMS, write_exams
from tests.services import installation

PATIENCE = 600.0
MADE = ("exams", "prepared", "models", "results", "comparisons")
SERVICE = {
    "retrain": {"quiet_minutes": 0.05, "watch_seconds": 1, "attempts": 100},
    "versioning": {"commit": True, "push": ["far"]},
}
"""Settings of one that is looked at each second."""


def run(root: Path, *command: str, **variables: str) -> str:
    done = scans.run(root, list(command), **variables)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def keyslice(root: Path, *arguments: str, **variables: str) -> str:
    return run(root, sys.executable, "-P", "-m", "keyslice.cli", *arguments, **variables)


class World:
    """One place, restored before each test: what MLflow records are absolute paths.

    Args:
        root: of the workspace, not there yet.
        command: of keyslice, that serves it.
        variables: added to the environment of all that runs in it.
    """

    def __init__(self, root: Path, command: str = "up", **variables: str) -> None:
        self.root, self.workspace = root, Workspace(root)
        self.kept = root.with_name("kept")
        self.log = root.with_name("service.log")
        self._command, self._variables = command, variables
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, source: Path, far: dict[str, str], service: dict[str, Any]) -> None:
        """From a clone: retrained once with 24 exams, pushed to `far`; 4 more have arrived.

        Args:
            source: the clone.
            far: settings of DVC's remote.
            service: further sections of params.yaml.
        """
        shutil.copytree(source, self.root, dirs_exist_ok=True)
        settings = PARAMS | SERVICE | service
        (self.root / "params.yaml").write_text(yaml.safe_dump(settings))
        inbox = self.root / "data" / "inbox" / "scans"
        write_exams(inbox, range(24))
        dvc = (sys.executable, "-m", "dvc")
        run(self.root, "git", "init", "-q")
        run(self.root, *dvc, "init", "-q")
        run(self.root, *dvc, "remote", "add", "far", far.pop("url"))
        for name, value in far.items():
            run(self.root, *dvc, "remote", "modify", "--local", "far", name, value)
        author = ("-c", "user.name=A", "-c", "user.email=a@b")
        run(self.root, "git", *author, "commit", "-qm", "settings")
        self.keyslice("retrain", "scans")
        write_exams(inbox, range(24, 28))
        self.keep()

    def keep(self) -> None:
        shutil.copytree(self.root, self.kept, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)  # a disk of its own is emptied
        self.root.mkdir(exist_ok=True)
        run(self.root.parent, "cp", "-a", f"{self.kept}/.", str(self.root))
        self.log.unlink(missing_ok=True)

    def keyslice(self, *arguments: str) -> str:
        return keyslice(self.root, *arguments, **self._variables)

    def ask(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of keyslice that may fail, with further `variables`."""
        given = self._variables | variables
        return scans.run(
            self.root, [sys.executable, "-P", "-m", "keyslice.cli", *arguments], **given
        )

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """The service, with further `variables`."""
        given = self._variables | variables
        self._process = installation.start(self.root, self.log, self._command, **given)
        return self._process

    def end(self) -> None:
        """End the service, as a person would; nothing of it is left."""
        if self._command == "up" and any(one.cmdline()[-1:] == ["up"] for one in self.processes()):
            self.keyslice("down")
            assert [" ".join(one.cmdline()) for one in self.processes()] == []
        elif self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self.wait(lambda: not self.processes(), "processes are left")

    def kill(self, target: str = "all") -> int:
        """Kill one of TARGETS, in all its processes; returns how many these were."""
        last, killed = self.attempt(), 0
        flow = None if last is None else alive(last.process)
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it has ended just now
                words = process.cmdline()
                wanted = {
                    "flow": process == flow,
                    "stage": "stage" in words or "dvc" in words,
                    "server": "flows.server" in words,
                    "serving": words[-1:] == ["serve"],
                    "all": True,
                }
                if wanted[target]:
                    process.kill()
                    killed += 1
        return killed

    def processes(self) -> list[psutil.Process]:
        return installation.processes(self.root)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return installation.wait(condition, what, self.log, seconds=PATIENCE, poll=0.005)

    def files(self) -> dict[str, str]:
        """SHA-256 of all that a retraining makes, and what DVC says of it."""
        found = {}
        for folder in MADE:
            for file in sorted((self.root / "data" / folder).rglob("*")):
                if file.is_file():
                    name = str(file.relative_to(self.root))
                    found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        found["dvc.lock"] = (self.root / "dvc.lock").read_text()
        return found

    def reference(self) -> dict[str, str]:
        """Keep what a run that nothing disturbed has left; its `files`."""
        shutil.copytree(self.root, self._reference, symlinks=True)
        return self.files()

    def complete(self) -> set[str]:
        """The stages that dvc.lock knows with the results of an undisturbed run."""
        known, then = lock.entries(self.workspace), lock.entries(Workspace(self._reference))
        return {name for name in then if known.get(name) == then[name]}

    def runs_of(self, stage: str) -> int:
        log = self.workspace.state / "logs" / f"{stage}.log"
        return log.read_text().count("Running stage") if log.is_file() else 0

    def attempt(self) -> attempts.Attempt | None:
        """The last one that the service made."""
        return attempts.last(self.workspace, "scans")

    def retrained(self) -> bool:
        last = self.attempt()
        return last is not None and last.outcome == "retrained"

    @property
    def _reference(self) -> Path:
        return self.root.with_name("reference")


TARGETS = ("flow", "stage", "server", "serving", "all")
"""A dataset's run; DVC and its stages; Prefect's server; `keyslice serve`; or everything."""

Moment = Callable[[World], Callable[[], bool]]
"""Of a world: whether it has come."""


def told(world: World, action: str) -> Callable[[], bool]:
    """Whether the ledger has heard of an action that it had not before the run."""

    def count(root: Path) -> int:
        return sum(event.action == action for event in ledger.read(Workspace(root)))

    return lambda: count(world.root) > count(world.kept)


def _other(world: World, *path: str) -> Callable[[], bool]:
    """Whether a file is not as it was before the run."""

    def differs() -> bool:
        now, then = world.root.joinpath(*path), world.kept.joinpath(*path)
        return now.is_file() and (not then.is_file() or now.read_bytes() != then.read_bytes())

    return differs


def _locked(world: World, stage: str) -> Callable[[], bool]:
    def differs() -> bool:
        text = (world.root / "dvc.lock").read_text()
        try:
            now = (yaml.safe_load(text) or {}).get("stages", {}).get(stage)
        except yaml.YAMLError:  # half-written
            return False
        return now is not None and now != lock.entries(Workspace(world.kept)).get(stage)

    return differs


def _head(root: Path) -> str:
    return run(root, "git", "rev-parse", "HEAD")


BOUNDARIES: dict[str, Moment] = {
    "the attempt is noted": lambda w: _other(w, "state", "service", "scans.json"),
    "the manifest is written": lambda w: _other(w, "data", "exams", "scans", "manifest.parquet"),
    "the version is recorded": lambda w: _other(w, "data", "exams", "scans.dvc"),
    "exams are prepared": lambda w: _locked(w, "prepare@scans"),
    "the plan is fixed": lambda w: told(w, events.RUN_STARTED),
    "a training has begun": lambda w: lambda: w.runs_of("train@scans-das") > 1,
    "a variant is trained": lambda w: _locked(w, "train@scans-das"),
    "a variant is evaluated": lambda w: _locked(w, "evaluate@scans-full"),
    "variants are compared": lambda w: _locked(w, "compare@scans"),
    "the version is registered": lambda w: told(w, events.MODEL_REGISTERED),
    "the registration is noted": lambda w: _other(w, "state", "retrained", "scans.json"),
    "the gate has been run": lambda w: told(w, events.GATE_EVALUATED),
    "the run is committed": lambda w: lambda: _head(w.root) != _head(w.kept),
    "the run is pushed": lambda w: _other(w, "state", "pushed", "scans.json"),
}
